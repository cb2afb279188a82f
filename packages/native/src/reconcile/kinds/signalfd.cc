#include "reconcile/kinds/signalfd.h"

#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace deltabox {

namespace {
// The system call, whose mask has eight bytes; `fd` -1 makes a new one.
int call_signalfd(int fd, std::uint64_t mask) {
  return static_cast<int>(::syscall(SYS_signalfd4, fd, &mask, sizeof mask, SFD_CLOEXEC));
}
}  // namespace

Result<UniqueFd> make_signalfd(const SignalfdState& wanted) {
  UniqueFd made(call_signalfd(-1, wanted.mask));
  if (!made) return os_error("signalfd4");
  return made;
}

Result<void> correct_signalfd(int duplicate, const SignalfdState& wanted) {
  if (call_signalfd(duplicate, wanted.mask) < 0) return os_error("signalfd4");
  return {};
}

}  // namespace deltabox
