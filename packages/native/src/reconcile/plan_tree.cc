#include "reconcile/plan.h"

namespace deltabox {

TreePlan plan_tree(const TreeImage& live, const TreeImage& target) {
  TreePlan plan;
  const std::set<Incarnation> make = processes_to_make(live, target);
  plan.births = plan_births(live, target, make, plan.dead);
  for (const ProcessImage& wanted : target.processes) {
    if (make.contains(wanted.incarnation)) continue;
    const ProcessImage& present = *live.find(wanted.incarnation);
    if (present.address_space != wanted.address_space) {
      plan.reload.push_back(wanted.incarnation);
      continue;  // an exec leaves one thread, and all of the target's are made
    }
    for (const ThreadImage& thread : wanted.threads) {
      if (present.find_thread(thread.inside) == nullptr) {
        plan.make_threads.push_back({wanted.incarnation, thread.inside});
      }
    }
  }
  for (const ProcessImage& present : live.processes) {
    const ProcessImage* wanted = target.find(present.incarnation);
    if (wanted == nullptr || make.contains(present.incarnation)) {
      plan.end_processes.push_back(present.incarnation);
      continue;
    }
    const bool reloads = present.address_space != wanted->address_space;
    for (const ThreadImage& thread : present.threads) {
      const bool is_leader = thread.inside == present.pid;
      const bool kept = reloads ? is_leader : wanted->find_thread(thread.inside) != nullptr;
      if (!kept) plan.end_threads.push_back({present.incarnation, thread.tid});
    }
  }
  for (const ZombieImage& zombie : live.zombies) {
    if (!zombie_stays(live, target, make, zombie)) plan.collect.push_back(zombie);
  }
  return plan;
}

}  // namespace deltabox
