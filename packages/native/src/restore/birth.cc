#include "restore/birth.h"

#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include "base/clock.h"
#include "deltacr/address_space.h"
#include "tracee/proc_files.h"
#include "tracee/ptrace.h"

namespace deltabox {

namespace {

// A number becomes free when its last holder is reaped, which init does in its own time; a holder that was killed has
// to come to its end first, for which one of the lowest priority may wait long.
constexpr std::uint64_t kPatienceNs = 2'000'000'000;
constexpr useconds_t kFirstPauseUs = 500;
constexpr useconds_t kLongestPauseUs = 10'000;

// `discard` ends one that got another number.
template <typename Make, typename Discard>
Result<HostTid> make_with_pid(int proc_fd, InsidePid pid, Make make, Discard discard) {
  const std::uint64_t end_ns = monotonic_ns() + kPatienceNs;
  for (useconds_t pause_us = kFirstPauseUs; monotonic_ns() < end_ns;
       pause_us = std::min(2 * pause_us, kLongestPauseUs)) {
    const HostTid made = TRY(make());
    const InsidePid inside = TRY(task_status(proc_fd, made)).inside;
    if (inside == pid) return made;
    TRY(discard(made, inside));
    ::usleep(pause_us);
  }
  return make_error(Code::kBusy, "pid " + std::to_string(pid.value) + " is taken by another task");
}

Result<void> exit_thread(HostTid tid, RemoteAddress instruction) {
  parasite::Session session = TRY(parasite::Session::begin(tid));
  const Result<std::int64_t> left = session.single_call(instruction, parasite::make_call(SYS_exit, 0));
  session.abandon();
  return !left.ok() && left.error().code == Code::kTraceeGone
             ? Result<void>()
             : Result<void>(make_error(Code::kInternal, "a thread made by mistake does not end"));
}

}  // namespace

Result<HostTid> make_child_of_init(int proc_fd, InitClient& init, InsidePid pid) {
  const auto make = [&]() -> Result<HostTid> {
    const HostTid stub = TRY(init.make_stub(pid));
    TRY(ptrace::seize(stub));
    TRY(ptrace::interrupt(stub));
    const ptrace::Stop stop = TRY(ptrace::wait_for_stop(stub));
    if (stop.kind != ptrace::Stop::Kind::kInterrupted) {
      return make_error(Code::kInternal, "a process just made does not stand still");
    }
    return stub;
  };
  return make_with_pid(proc_fd, pid, make, [](HostTid wrong, InsidePid) {
    end_task(wrong);  // init collects it
    return Result<void>();
  });
}

Result<HostTid> make_task(int proc_fd, InitClient& init, const Maker& maker, InsidePid pid, std::uint64_t flags) {
  const auto make = [&]() -> Result<HostTid> {
    TRY(init.choose_next_pid(pid));
    return maker.session->give_birth(maker.instruction, parasite::make_call(SYS_clone, flags));
  };
  return make_with_pid(proc_fd, pid, make, [&](HostTid wrong, InsidePid inside) -> Result<void> {
    if ((flags & CLONE_THREAD) != 0) return exit_thread(wrong, maker.instruction);
    end_task(wrong);
    return reap(maker, inside);
  });
}

Result<RemoteAddress> syscall_instruction(int proc_fd, HostTid pid) {
  ProcessFiles files(proc_fd, pid);
  const std::shared_ptr<const MappingList> mappings = TRY(list_mappings(files, nullptr));
  const auto vdso =
      std::find_if(mappings->begin(), mappings->end(), [](const Mapping& mapping) { return mapping.name == "[vdso]"; });
  if (vdso == mappings->end()) return make_error(Code::kUnsupported, "a process without a vdso can't make others");
  return RemoteAddress{vdso->range.start + TRY(parasite::vdso_syscall_offset())};
}

}  // namespace deltabox
