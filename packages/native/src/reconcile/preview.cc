#include "reconcile/preview.h"

#include <algorithm>

#include "deltacr/address_space.h"
#include "reconcile/plan.h"

namespace deltabox {

namespace {
void append(std::vector<Notice>& all, const std::vector<Notice>& more) {
  all.insert(all.end(), more.begin(), more.end());
}
}  // namespace

std::vector<Notice> one_way_changes(const ProcessImage& live, const ProcessImage& target) {
  std::vector<Notice> notices;
  const int pid = target.pid.value;
  if (live.session != target.session) {
    notices.push_back({pid, "session", "it started a session of its own since the checkpoint"});
  }
  if (!(live.credentials == target.credentials)) {
    notices.push_back({pid, "credentials", "it changed its user or group since the checkpoint"});
  }
  if (live.group_stopped != target.group_stopped) {
    notices.push_back({pid, "job-control", "it was stopped or continued since the checkpoint"});
  }
  if (target.working_dir_deleted) {
    notices.push_back({pid, "working-directory", target.working_dir + " was already deleted at the checkpoint"});
  }
  return notices;
}

std::vector<Notice> collected_zombies(const TreeImage& live, const TreeImage& target) {
  std::vector<Notice> notices;
  for (const int zombie : target.zombies) {
    if (std::find(live.zombies.begin(), live.zombies.end(), zombie) == live.zombies.end()) {
      notices.push_back({zombie, "zombie", "its exit status was collected since the checkpoint"});
    }
  }
  return notices;
}

std::vector<Notice> preview_not_restored(const TreeImage& live, const TreeImage& target,
                                         const std::set<int>& switched) {
  std::vector<Notice> notices = plan_descriptors(live, target, switched).unrestorable;
  append(notices, collected_zombies(live, target));
  for (const ProcessImage& wanted : target.processes) {
    const ProcessImage* present = live.find(wanted.incarnation);
    if (present == nullptr) continue;
    append(notices, one_way_changes(*present, wanted));
    if (present->mappings == wanted.mappings) continue;
    for (const Mapping& lost :
         plan_mappings(*present->mappings, *wanted.mappings, AddressRange{}, switched).unrestorable) {
      notices.push_back({wanted.pid.value, "shared-memory", lost.name + ": it was unmapped since the checkpoint"});
    }
  }
  return notices;
}

}  // namespace deltabox
