#include "reconcile/preview.h"

#include "deltacr/address_space.h"
#include "reconcile/plan.h"
#include "reconcile/plan_posix_timers.h"

namespace deltabox {

namespace {
void append(std::vector<Notice>& all, const std::vector<Notice>& more) {
  all.insert(all.end(), more.begin(), more.end());
}
}  // namespace

std::vector<Notice> never_restored(const ProcessImage& target) {
  std::vector<Notice> notices;
  const int pid = target.pid.value;
  if (target.working_dir_deleted) {
    notices.push_back({pid, "working-directory", target.working_dir + " was already deleted at the checkpoint"});
  }
  return notices;
}

std::vector<Notice> preview_not_restored(const TreeImage& live, const TreeImage& target,
                                         const std::set<int>& switched) {
  std::vector<Notice> notices = plan_descriptors(live, target, switched).unrestorable;
  for (const ProcessImage& wanted : target.processes) {
    const ProcessImage* present = live.find(wanted.incarnation);
    if (present == nullptr) continue;
    append(notices, never_restored(wanted));
    append(notices, plan_posix_timers(*present, wanted).unrestorable);
    if (present->mappings == wanted.mappings) continue;
    for (const Mapping& lost :
         plan_mappings(*present->mappings, *wanted.mappings, AddressRange{}, switched).unrestorable) {
      notices.push_back({wanted.pid.value, "shared-memory", lost.name + ": it was unmapped since the checkpoint"});
    }
  }
  return notices;
}

}  // namespace deltabox
