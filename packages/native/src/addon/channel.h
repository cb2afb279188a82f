#pragma once

#include <napi.h>

#include <memory>
#include <string>
#include <thread>
#include <variant>

#include "frame_io.h"
#include "frame_writer.h"
#include "owned_fd.h"

namespace deltabox::addon {

// Channel(fd, onFrame, onClose): one connection as a JavaScript object.
//
// Threads: the JavaScript thread owns everything; the reader thread only touches the descriptor (read side) and the
// thread-safe function. Open -> Closed happens once, on the JavaScript thread: by close(), by the end of the stream,
// or by the end of the environment. It shuts the socket down, so that the reader's recvmsg returns, aborts the
// thread-safe function, so that a reader waiting for room in its queue returns, and joins.
class Channel : public Napi::ObjectWrap<Channel> {
 public:
  static Napi::Function Define(Napi::Env env);
  explicit Channel(const Napi::CallbackInfo& info);
  ~Channel() override;

 private:
  struct Ended {
    std::string error;  // empty at an orderly end of the stream
  };
  using Event = std::variant<Frame, Ended>;

  static void Deliver(Napi::Env env, Napi::Function, Channel* channel, Event* event);
  using Deliverer = Napi::TypedThreadSafeFunction<Channel, Event, &Channel::Deliver>;

  void Send(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);
  void RefLoop(const Napi::CallbackInfo& info);
  void UnrefLoop(const Napi::CallbackInfo& info);

  static void ReadLoop(int fd, Deliverer deliverer);
  static void OnEnvironmentEnd(void* channel);
  void Shut();

  // Frames that wait for the JavaScript thread; then the reader waits, and so does the engine's writing.
  static constexpr size_t kMaxWaitingFrames = 64;

  bool open_ = false;
  OwnedFd fd_;
  std::unique_ptr<FrameWriter> writer_;
  std::thread reader_;
  Deliverer deliverer_;
  Napi::FunctionReference on_frame_;
  Napi::FunctionReference on_close_;
};

}  // namespace deltabox::addon
