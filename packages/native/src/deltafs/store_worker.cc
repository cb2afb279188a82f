#include "deltafs/store_worker.h"

#include <sched.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <future>

namespace deltabox {

namespace {
constexpr int kNice = 10;  // tasks and the engine come first
}

Result<std::unique_ptr<StoreWorker>> StoreWorker::start() {
  std::unique_ptr<StoreWorker> worker(new StoreWorker);
  worker->ended_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!worker->ended_) return os_error("eventfd");
  // Signals are the engine thread's business.
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  std::promise<int> ready;
  worker->thread_ = std::thread([self = worker.get(), &ready] {
    const int outcome = ::unshare(CLONE_FS) == 0 ? 0 : errno;
    (void)::setpriority(PRIO_PROCESS, static_cast<id_t>(::syscall(SYS_gettid)), kNice);
    ready.set_value(outcome);
    self->run();
  });
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  const int outcome = ready.get_future().get();
  if (outcome != 0) return os_error_from(outcome, "unshare", "CLONE_FS");
  return worker;
}

void StoreWorker::stop() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    jobs_.clear();
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void StoreWorker::post(Job job) {
  {
    const std::lock_guard lock(mutex_);
    if (stop_) return;
    jobs_.push_back(std::move(job));
  }
  wake_.notify_one();
}

void StoreWorker::acknowledge() {
  std::uint64_t count = 0;
  (void)!::read(ended_.get(), &count, sizeof count);
}

void StoreWorker::run() {
  for (;;) {
    Job job;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return stop_ || !jobs_.empty(); });
      if (stop_) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    job();
    const std::uint64_t one = 1;
    (void)!::write(ended_.get(), &one, sizeof one);
  }
}

}  // namespace deltabox
