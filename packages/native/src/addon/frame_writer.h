#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "frame_io.h"

namespace deltabox::addon {

// Sends frames in order without ever blocking its caller: what the socket does not take at once is sent by a thread,
// which exists only after the socket was full for the first time. The usual call thus costs no thread switch.
class FrameWriter {
 public:
  explicit FrameWriter(int fd) : fd_(fd) {}
  FrameWriter(const FrameWriter&) = delete;
  FrameWriter& operator=(const FrameWriter&) = delete;
  // Precondition: Stop was called, or no thread was ever started.
  ~FrameWriter() = default;

  // Throws SysError: ENOBUFS beyond kMaxQueuedBytes, or what sendmsg said (also for an earlier, queued frame).
  void Send(OutgoingFrame frame);

  // Precondition: the socket was shut down, so that a blocked sendmsg returns.
  void Stop();

  // A sender that is this far ahead of the engine has lost it; four frames of the largest size.
  static constexpr size_t kMaxQueuedBytes = 4 * kMaxPayloadBytes;

 private:
  void Run();

  const int fd_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<OutgoingFrame> queue_;  // guarded by mutex_; the front stays in place while it is being sent
  size_t queued_bytes_ = 0;          // guarded by mutex_
  int failed_errno_ = 0;             // guarded by mutex_; of a queued frame, reported by the next Send
  bool stopping_ = false;            // guarded by mutex_
  std::thread thread_;
};

}  // namespace deltabox::addon
