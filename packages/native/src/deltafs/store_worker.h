// One background thread for work on the store that nobody waits for: merging and removing layers.
//
// It has its own working directory and root (unshare(CLONE_FS)): setns(2) refuses a mount namespace to a thread that
// shares them, and the engine's own thread changes namespaces. It opens nothing by absolute path.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "base/result.h"
#include "base/unique_fd.h"

namespace deltabox {

class StoreWorker {
 public:
  using Job = std::function<void()>;

  static Result<std::unique_ptr<StoreWorker>> start();
  ~StoreWorker() { stop(); }

  // Waits for the job that runs; drops the others, and those to come.
  void stop();
  // For a long job to end early.
  bool stopping() const { return stop_; }

  void post(Job job);
  // Readable once a job has ended; `acknowledge` makes it unreadable again.
  int ended_fd() const { return ended_.get(); }
  void acknowledge();

 private:
  StoreWorker() = default;
  void run();

  UniqueFd ended_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Job> jobs_;
  std::atomic<bool> stop_ = false;  // set with the mutex held
  std::thread thread_;
};

}  // namespace deltabox
