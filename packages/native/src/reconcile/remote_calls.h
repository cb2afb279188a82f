// Any number of system calls in a held process.
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "deltacr/capture.h"
#include "parasite/session.h"

namespace deltabox {

// Where a byte of the parasite's buffer lies in the process.
inline std::uint64_t buffer_at(const HeldProcess& held, std::size_t offset) {
  return held.live->site.mapping.value + parasite::kBufferOffset + offset;
}

// Results stay in the calls.
Result<void> run_batched(parasite::Session& session, const parasite::Site& site, std::vector<parasite::Call>& calls);
// The first that the kernel refused is an error.
Result<void> run_all(HeldProcess& held, std::vector<parasite::Call>& calls, const char* operation);
// A process makes it, so that it is in the tasks' network namespace and shows the process's credentials.
Result<UniqueFd> make_socket_in(HeldProcess& held, int family, int type, int protocol);
// The same of calls that were made.
Result<void> check_all(const HeldProcess& held, const std::vector<parasite::Call>& calls, const char* operation);
// Takes a descriptor out of a process.
Result<UniqueFd> take(HeldProcess& held, std::int64_t fd);
Error failed_call(const HeldProcess& held, const char* operation, const parasite::Call& call);

}  // namespace deltabox
