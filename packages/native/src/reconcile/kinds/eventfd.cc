#include "reconcile/kinds/eventfd.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>

namespace deltabox {

namespace {
Result<void> add(int fd, std::uint64_t count) {
  // The count of eventfd(2) itself has 32 bits.
  if (count != 0 && ::write(fd, &count, sizeof count) != sizeof count) return os_error("write", "eventfd");
  return {};
}
}  // namespace

Result<UniqueFd> make_eventfd(const EventfdState& wanted) {
  UniqueFd made(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | (wanted.semaphore ? EFD_SEMAPHORE : 0)));
  if (!made) return os_error("eventfd");
  TRY(add(made.get(), wanted.count));
  return made;
}

Result<void> correct_eventfd(int duplicate, const EventfdState& wanted) {
  const int flags = ::fcntl(duplicate, F_GETFL);
  // Its users are frozen: for the length of the pause nobody sees the flag but us.
  if (::fcntl(duplicate, F_SETFL, flags | O_NONBLOCK) != 0) return os_error("fcntl", "F_SETFL");
  Result<void> outcome;
  std::uint64_t present = 0;  // a read takes all of it
  if (::read(duplicate, &present, sizeof present) < 0 && errno != EAGAIN) outcome = os_error("read", "eventfd");
  if (outcome.ok()) outcome = add(duplicate, wanted.count);
  if (::fcntl(duplicate, F_SETFL, flags) != 0 && outcome.ok()) outcome = os_error("fcntl", "F_SETFL");
  return outcome;
}

}  // namespace deltabox
