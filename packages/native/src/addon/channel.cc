#include "channel.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <utility>

#include "sys_error.h"

namespace deltabox::addon {

Napi::Function Channel::Define(Napi::Env env) {
  return DefineClass(env, "Channel",
                     {
                         InstanceMethod("send", &Channel::Send),
                         InstanceMethod("close", &Channel::Close),
                         InstanceMethod("ref", &Channel::RefLoop),
                         InstanceMethod("unref", &Channel::UnrefLoop),
                     });
}

Channel::Channel(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Channel>(info) {
  Napi::Env env = info.Env();
  if (info.Length() < 3 || !info[0].IsNumber() || !info[1].IsFunction() || !info[2].IsFunction()) {
    throw Napi::TypeError::New(env, "Channel(fd, onFrame, onClose)");
  }
  fd_ = OwnedFd(info[0].As<Napi::Number>().Int32Value());
  on_frame_ = Napi::Persistent(info[1].As<Napi::Function>());
  on_close_ = Napi::Persistent(info[2].As<Napi::Function>());
  writer_ = std::make_unique<FrameWriter>(fd_.Get());
  deliverer_ = Deliverer::New(env, "deltabox.Channel", kMaxWaitingFrames, 1, this);
  reader_ = std::thread(&Channel::ReadLoop, fd_.Get(), deliverer_);
  open_ = true;
  // Hooks run last-in first-out: this one ends the reader before the thread-safe function goes.
  napi_add_env_cleanup_hook(env, &Channel::OnEnvironmentEnd, this);
  Ref();  // The reader's events name this object: it lives until it is closed.
}

Channel::~Channel() { Shut(); }

void Channel::ReadLoop(int fd, Deliverer deliverer) {
  bool ended = false;
  while (!ended) {
    auto event = std::make_unique<Event>();
    try {
      std::optional<Frame> frame = ReceiveFrame(fd);
      ended = !frame.has_value();
      if (ended) {
        *event = Ended{};
      } else {
        *event = std::move(*frame);
      }
    } catch (const std::exception& error) {
      ended = true;
      *event = Ended{error.what()};
    }
    // "closing" also gives this thread's claim on the function back: nothing may be called after it.
    if (deliverer.BlockingCall(event.get()) != napi_ok) return;
    static_cast<void>(event.release());
  }
  deliverer.Release();
}

void Channel::Deliver(Napi::Env env, Napi::Function, Channel* channel, Event* raw_event) {
  const std::unique_ptr<Event> event(raw_event);
  // No environment: the function was aborted, and what still waited only has to be freed.
  if (env == nullptr || !channel->open_) return;
  Napi::HandleScope scope(env);
  if (auto* frame = std::get_if<Frame>(event.get())) {
    Napi::Array fds = Napi::Array::New(env, frame->fds.size());
    for (uint32_t i = 0; i < frame->fds.size(); ++i) fds[i] = Napi::Number::New(env, frame->fds[i].Release());
    auto payload = Napi::Buffer<uint8_t>::Copy(env, frame->payload.data(), frame->payload.size());
    channel->on_frame_.Call({payload, fds});
    return;
  }
  const std::string error = std::get<Ended>(*event).error;
  Napi::Function on_close = channel->on_close_.Value();
  channel->Shut();
  channel->Unref();
  on_close.Call({error.empty() ? env.Undefined() : Napi::String::New(env, error)});
}

void Channel::Shut() {
  if (!std::exchange(open_, false)) return;
  napi_remove_env_cleanup_hook(Env(), &Channel::OnEnvironmentEnd, this);
  ::shutdown(fd_.Get(), SHUT_RDWR);
  deliverer_.Abort();
  writer_->Stop();
  if (reader_.joinable()) reader_.join();
  fd_.Reset();
  on_frame_.Reset();
  on_close_.Reset();
}

void Channel::OnEnvironmentEnd(void* channel) { static_cast<Channel*>(channel)->Shut(); }

void Channel::Send(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (info.Length() < 1 || !info[0].IsTypedArray()) throw Napi::TypeError::New(env, "send(payload, fds?)");
  try {
    if (!open_) throw SysError(EPIPE, "send");
    std::vector<OwnedFd> fds;
    if (info.Length() > 1 && info[1].IsArray()) {
      Napi::Array numbers = info[1].As<Napi::Array>();
      if (numbers.Length() > kMaxFds) throw SysError(EMSGSIZE, "frame");
      for (uint32_t i = 0; i < numbers.Length(); ++i) {
        const int own = ::fcntl(numbers.Get(i).ToNumber().Int32Value(), F_DUPFD_CLOEXEC, 0);
        if (own < 0) throw SysError(errno, "fcntl(F_DUPFD_CLOEXEC)");
        fds.emplace_back(own);
      }
    }
    auto payload = info[0].As<Napi::Uint8Array>();
    writer_->Send(EncodeFrame(payload.Data(), payload.ByteLength(), std::move(fds)));
  } catch (const SysError& error) {
    throw error.ToNapi(env);
  }
}

void Channel::Close(const Napi::CallbackInfo&) {
  if (!open_) return;
  Shut();
  Unref();
}

void Channel::RefLoop(const Napi::CallbackInfo& info) {
  if (open_) deliverer_.Ref(info.Env());
}

void Channel::UnrefLoop(const Napi::CallbackInfo& info) {
  if (open_) deliverer_.Unref(info.Env());
}

}  // namespace deltabox::addon
