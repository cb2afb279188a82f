#include "reconcile/remote_calls.h"

#include <sys/socket.h>
#include <sys/syscall.h>

#include <algorithm>
#include <span>
#include <string>

#include "sys/processes.h"

namespace deltabox {

using parasite::Call;

Result<void> run_batched(parasite::Session& session, const parasite::Site& site, std::vector<Call>& calls) {
  for (std::size_t start = 0; start < calls.size(); start += parasite::kMaxCalls) {
    const std::size_t count = std::min(parasite::kMaxCalls, calls.size() - start);
    TRY(session.run(site, std::span(calls).subspan(start, count)));
  }
  return {};
}

Result<void> run_all(HeldProcess& held, std::vector<Call>& calls, const char* operation) {
  TRY(run_batched(held.session, held.live->site, calls));
  return check_all(held, calls, operation);
}

Result<void> check_all(const HeldProcess& held, const std::vector<Call>& calls, const char* operation) {
  for (const Call& call : calls) {
    if (call.result < 0) return failed_call(held, operation, call);
  }
  return {};
}

Result<UniqueFd> make_socket_in(HeldProcess& held, int family, int type, int protocol) {
  Call make =
      parasite::make_call(SYS_socket, static_cast<std::uint64_t>(family),
                          static_cast<std::uint64_t>(type) | SOCK_CLOEXEC, static_cast<std::uint64_t>(protocol));
  TRY(held.session.run(held.live->site, {&make, 1}));
  if (make.result < 0) return os_error_from(static_cast<int>(-make.result), "socket in a tracee");
  return take(held, make.result);
}

Result<UniqueFd> take(HeldProcess& held, std::int64_t fd) {
  Result<UniqueFd> taken = sys::pidfd_get_fd(held.live->pidfd.get(), static_cast<int>(fd));
  Call close = parasite::make_call(SYS_close, static_cast<std::uint64_t>(fd));
  TRY(held.session.run(held.live->site, {&close, 1}));
  return taken;
}

Error failed_call(const HeldProcess& held, const char* operation, const Call& call) {
  return os_error_from(static_cast<int>(-call.result), operation, "pid " + std::to_string(held.live->inside.value));
}

}  // namespace deltabox
