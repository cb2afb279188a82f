#include <algorithm>
#include <string>

#include "reconcile/plan.h"

namespace deltabox {

TreePlan plan_tree(const TreeImage& live, const TreeImage& target) {
  TreePlan plan;
  for (const ProcessImage& wanted : target.processes) {
    const ProcessImage* present = live.find(wanted.incarnation);
    if (present == nullptr) {
      plan.dead.push_back({wanted.pid.value, "process", "it ended since the checkpoint"});
      continue;
    }
    if (present->address_space != wanted.address_space) {
      plan.dead.push_back({wanted.pid.value, "process", "it executed another program since the checkpoint"});
      continue;
    }
    for (const ThreadImage& thread : wanted.threads) {
      const bool alive = std::any_of(present->threads.begin(), present->threads.end(),
                                     [&](const ThreadImage& other) { return other.tid == thread.tid; });
      if (!alive) plan.dead.push_back({wanted.pid.value, "thread", "a thread of it ended since the checkpoint"});
    }
  }
  for (const ProcessImage& present : live.processes) {
    const ProcessImage* wanted = target.find(present.incarnation);
    if (wanted == nullptr) {
      plan.end_processes.push_back(present.incarnation);
      continue;
    }
    for (const ThreadImage& thread : present.threads) {
      const bool kept = std::any_of(wanted->threads.begin(), wanted->threads.end(),
                                    [&](const ThreadImage& other) { return other.tid == thread.tid; });
      if (!kept) plan.end_threads.push_back({present.incarnation, thread.tid});
    }
  }
  return plan;
}

}  // namespace deltabox
