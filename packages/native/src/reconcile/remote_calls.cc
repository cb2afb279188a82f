#include "reconcile/remote_calls.h"

#include <algorithm>
#include <span>
#include <string>

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
  for (const Call& call : calls) {
    if (call.result < 0) return failed_call(held, operation, call);
  }
  return {};
}

Error failed_call(const HeldProcess& held, const char* operation, const Call& call) {
  return os_error_from(static_cast<int>(-call.result), operation, "pid " + std::to_string(held.live->inside.value));
}

}  // namespace deltabox
