#include "frame_writer.h"

#include <sys/socket.h>

#include <cerrno>

#include "sys_error.h"

namespace deltabox::addon {

void FrameWriter::Send(OutgoingFrame frame) {
  std::lock_guard lock(mutex_);
  if (failed_errno_ != 0) throw SysError(failed_errno_, "sendmsg");
  if (stopping_) throw SysError(EPIPE, "sendmsg");
  if (queue_.empty() && SendSome(fd_, frame, MSG_DONTWAIT)) return;
  const size_t size_bytes = frame.bytes.size();
  // A frame that is partly on the wire must be completed, whatever the bound says.
  if (frame.sent_bytes == 0 && queued_bytes_ + size_bytes > kMaxQueuedBytes) throw SysError(ENOBUFS, "sendmsg");
  queued_bytes_ += size_bytes;
  queue_.push_back(std::move(frame));
  if (!thread_.joinable()) thread_ = std::thread([this] { Run(); });
  wake_.notify_one();
}

void FrameWriter::Stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void FrameWriter::Run() {
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (stopping_) return;
    // A deque's elements stay where they are while others are added behind them.
    OutgoingFrame& frame = queue_.front();
    lock.unlock();
    int os_errno = 0;
    try {
      if (!SendSome(fd_, frame, 0)) os_errno = EAGAIN;
    } catch (const SysError&) {
      os_errno = EPIPE;
    }
    lock.lock();
    if (os_errno != 0) {
      failed_errno_ = os_errno;
      return;
    }
    queued_bytes_ -= frame.bytes.size();
    queue_.pop_front();
  }
}

}  // namespace deltabox::addon
