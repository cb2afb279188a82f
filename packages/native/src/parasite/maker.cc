#include "parasite/maker.h"

#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <string>

#include "tracee/ptrace.h"

namespace deltabox {

Result<void> reap(const Maker& parent, InsidePid child) {
  const std::int64_t reaped = TRY(parent.session->single_call(
      parent.instruction,
      parasite::make_call(SYS_wait4, static_cast<std::uint64_t>(child.value), 0, WNOHANG | __WALL, 0)));
  if (reaped == child.value) return {};
  return make_error(Code::kInternal, "pid " + std::to_string(child.value) + " could not be collected");
}

void end_task(HostTid pid) {
  ::kill(pid.value, SIGKILL);
  for (;;) {
    const Result<ptrace::Stop> stop = ptrace::wait_for_stop(pid);
    if (!stop.ok() || stop.value().kind == ptrace::Stop::Kind::kGone) return;
  }
}

}  // namespace deltabox
