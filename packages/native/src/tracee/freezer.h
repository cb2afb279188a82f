// Stops every task of a sandbox, and lets them go again.
//
//   seize all known → interrupt all → wait for all → look for newborn tasks → … until a look finds none
//
// Known are the processes of the last freeze, so that they stop side by side; a first freeze finds them look by look. A
// stopped task makes no children, so the loop ends; it is bounded all the same. A task that can't stop in time (in an
// uninterruptible wait) makes the attempt fail: everything is thawed, given time to move on, and tried again; one that
// only lacks a processor is waited for. Parents
// are stopped before their children are looked at, so a parent in vfork(2) is waited for while its child runs on to its
// exec.
#pragma once

#include <signal.h>

#include <cstdint>
#include <list>
#include <optional>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "tracee/interrupted_calls.h"
#include "tracee/known_tasks.h"
#include "tracee/ptrace.h"

namespace deltabox {

struct FrozenThread {
  HostTid tid;
  bool stopped = false;
  bool settled = false;  // its interrupted call has been seen to; thaw() sees to the others
  bool group_stopped = false;
  std::optional<siginfo_t> held_signal;  // it was about to be delivered when the thread froze
};

struct FrozenProcess {
  HostTid pid;
  HostTid parent;
  std::vector<FrozenThread> threads;  // the leader first
};

// Kills the process and waits until all its threads are gone; its real parent (or init) still has to reap it.
void end_frozen_process(const FrozenProcess& process);

struct ZombieProcess {
  HostTid pid;
  InsidePid inside;
  InsidePid parent_inside;
  std::int32_t session = 0;  // inside
  std::int32_t process_group = 0;
  int exit_status = 0;  // as of wait4(2)
};

class Freezer;

class Freeze {
 public:
  Freeze(Freeze&& other) noexcept;
  Freeze& operator=(Freeze&&) = delete;
  Freeze(const Freeze&) = delete;
  Freeze& operator=(const Freeze&) = delete;
  ~Freeze();  // thaws

  TimedCalls& timed_calls();
  std::list<FrozenProcess>& processes() { return processes_; }
  const std::vector<ZombieProcess>& zombies() const { return zombies_; }
  int attempts() const { return attempts_; }
  std::uint64_t started_ns() const { return started_ns_; }

  // Lets all threads run, delivering held signals. `drop_held_signals`: a rollback replaced them.
  void thaw();
  void drop_held_signals();
  // Kills every frozen process and waits until none is left.
  void end_all();
  // A process that the engine made, and that stands still.
  FrozenProcess& adopt_process(HostTid pid, HostTid parent);
  // A process or thread that the engine ended while frozen.
  void forget_process(HostTid pid);
  void forget_thread(HostTid pid, HostTid tid);

 private:
  friend class Freezer;
  explicit Freeze(Freezer& freezer) : freezer_(&freezer) {}
  bool holds(HostTid tid) const;
  Result<void> attempt(std::uint64_t timeout_us);
  Result<void> freeze_known();
  Result<bool> freeze_newborn();
  bool order_as_met(const std::vector<HostTid>& met);
  Result<void> freeze_new_threads(FrozenProcess& process, const std::vector<HostTid>& threads, bool& found_new);
  Result<void> attach_new_threads(FrozenProcess& process, const std::vector<HostTid>& threads);
  Result<bool> wait_for_threads(FrozenProcess& process);
  Result<bool> attach(HostTid pid, HostTid tid);
  bool ends(HostTid pid, HostTid tid);
  Result<ptrace::Stop> wait_for_stop(HostTid pid, HostTid tid);
  Result<void> stop_thread(HostTid pid, FrozenThread& thread);

  Freezer* freezer_;
  std::list<FrozenProcess> processes_;  // captures point into it
  std::vector<ZombieProcess> zombies_;
  int attempts_ = 0;
  std::uint64_t started_ns_ = 0;
};

// Freezes one sandbox, again and again. init itself is never frozen.
class Freezer {
 public:
  Freezer(int proc_fd, HostTid init) : proc_fd_(proc_fd), init_(init), tasks_(proc_fd) {}
  Result<Freeze> freeze_all();

  // Threads that did not stop within an attempt are still attached and will stop some day; they must not stay stopped.
  // Called from time to time while there are any.
  bool has_late_threads() const { return !late_.empty(); }
  void release_late_threads();

 private:
  friend class Freeze;
  int proc_fd_;
  HostTid init_;
  KnownTasks tasks_;
  std::vector<std::pair<HostTid, HostTid>> known_;  // processes of the last freeze and their parents, parents first
  std::vector<HostTid> late_;
  TimedCalls timed_calls_;
};

}  // namespace deltabox
