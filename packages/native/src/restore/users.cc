#include "restore/users.h"

#include <sys/prctl.h>
#include <sys/syscall.h>

#include <algorithm>

#include "reconcile/plan_credentials.h"

namespace deltabox {

namespace {

using parasite::Call;
using parasite::make_call;

Rights with_users_of(Rights rights, const Credentials& wanted) {
  std::copy(std::begin(wanted.uids), std::end(wanted.uids), std::begin(rights.credentials.uids));
  std::copy(std::begin(wanted.gids), std::end(wanted.gids), std::begin(rights.credentials.gids));
  rights.credentials.groups = wanted.groups;
  return rights;
}

Result<bool> run_batch(parasite::Session& session, const parasite::Site& site, AttributeBatch& batch) {
  TRY(session.write_buffer(site, 0, batch.buffer.data(), batch.buffer.size()));
  TRY(session.run(site, batch.calls));
  return std::all_of(batch.calls.begin(), batch.calls.end(), [](const Call& call) { return call.result >= 0; });
}

}  // namespace

Result<void> assume_users(HeldProcess& held, ProcessImage& made, const ProcessImage& target) {
  const parasite::Site& site = held.live->site;
  bool all_did = true;
  for (const ThreadImage& thread : made.threads) {
    const Rights present = rights_of(made, thread);
    AttributeBatch batch(site.mapping.value + parasite::kBufferOffset);
    plan_credentials(present, with_users_of(present, target.credentials), batch);
    if (batch.empty()) return {};
    if (thread.tid == held.session.tid()) {
      all_did = TRY(run_batch(held.session, site, batch)) && all_did;
      continue;
    }
    parasite::Session session = TRY(parasite::Session::begin(thread.tid));
    all_did = TRY(run_batch(session, site, batch)) && all_did;
    TRY(session.finish());
  }
  if (all_did) made.credentials = with_users_of({made.credentials, {}}, target.credentials).credentials;
  // Another user starts with another value.
  Call dumpable = make_call(SYS_prctl, PR_GET_DUMPABLE);
  TRY(held.session.run(site, {&dumpable, 1}));
  made.attributes.dumpable = static_cast<std::uint32_t>(dumpable.result);
  return {};
}

}  // namespace deltabox
