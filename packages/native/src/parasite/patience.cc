#include "parasite/patience.h"

#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <ctime>

namespace deltabox::parasite {

namespace {

// Those of this thread: the handler runs in it.
thread_local volatile pid_t waited_for = 0;
thread_local volatile std::sig_atomic_t has_interrupted = 0;

int timer_signal() { return SIGRTMIN + 1; }

void interrupt(int) {
  const int before = errno;
  if (waited_for != 0 && ::ptrace(PTRACE_INTERRUPT, waited_for, 0, 0) == 0) has_interrupted = 1;
  errno = before;
}

// One for each thread, made when it is first needed; without one (EAGAIN) there is no bound.
class Timer {
 public:
  Timer() {
    struct sigaction action {};
    action.sa_handler = interrupt;
    action.sa_flags = SA_RESTART;  // only the tracee is to notice
    ::sigaction(timer_signal(), &action, nullptr);
    sigevent event{};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = timer_signal();
    event._sigev_un._tid = static_cast<pid_t>(::syscall(SYS_gettid));
    is_made_ = ::timer_create(CLOCK_MONOTONIC, &event, &timer_) == 0;
  }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;
  ~Timer() {
    if (is_made_) ::timer_delete(timer_);
  }
  void set(int interval_ms) {
    itimerspec value{};
    value.it_value.tv_sec = value.it_interval.tv_sec = interval_ms / 1'000;
    value.it_value.tv_nsec = value.it_interval.tv_nsec = interval_ms % 1'000 * 1'000'000L;
    if (is_made_) ::timer_settime(timer_, 0, &value, nullptr);
  }

 private:
  timer_t timer_{};
  bool is_made_ = false;
};

Timer& timer() {
  thread_local Timer own;
  return own;
}

}  // namespace

Patience::Patience(HostTid tid) {
  has_interrupted = 0;
  waited_for = tid.value;
  timer().set(kMaxSleepMs);
}

Patience::~Patience() {
  timer().set(0);
  waited_for = 0;
}

bool Patience::has_ended() const { return has_interrupted != 0; }

}  // namespace deltabox::parasite
