#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <map>
#include <string>

#include "reconcile/apply.h"

namespace deltabox {

Result<void> end_newborn(ApplyContext& context, const TreePlan& plan, const TreeImage& live, const TreeImage& target,
                         ApplyOutcome& outcome) {
  std::map<int, std::vector<int>> to_reap;  // parent inside → children inside
  // Children before parents, so that a parent that stays finds each of its own.
  for (auto incarnation = plan.end_processes.rbegin(); incarnation != plan.end_processes.rend(); ++incarnation) {
    HeldProcess* held = context.capture->find(*incarnation);
    const ProcessImage* image = live.find(*incarnation);
    if (held == nullptr || image == nullptr) return make_error(Code::kInternal, "a process to end is not held");
    const HostTid pid = held->live->pid;
    end_frozen_process(*held->frozen);
    to_reap[image->parent.value].push_back(image->pid.value);
    context.capture->forget(*incarnation);
    context.freeze->forget_process(pid);
    outcome.ended_processes.push_back(image->pid);
  }
  for (const ZombieImage& zombie : plan.collect) to_reap[zombie.parent.value].push_back(zombie.pid.value);
  for (const auto& [parent, children] : to_reap) {
    const auto image =
        std::find_if(target.processes.begin(), target.processes.end(),
                     [&, wanted = parent](const ProcessImage& process) { return process.pid.value == wanted; });
    HeldProcess* held = image != target.processes.end() ? context.capture->find(image->incarnation) : nullptr;
    if (held == nullptr) continue;  // init reaps them
    std::vector<parasite::Call> calls;
    for (const int child : children) {
      calls.push_back(parasite::make_call(SYS_wait4, static_cast<std::uint64_t>(child), 0, WNOHANG | __WALL, 0));
    }
    for (std::size_t start = 0; start < calls.size(); start += parasite::kMaxCalls) {
      const std::size_t count = std::min(parasite::kMaxCalls, calls.size() - start);
      TRY(held->session.run(held->live->site, std::span(calls).subspan(start, count)));
    }
  }
  for (const TreePlan::ThreadToEnd& end : plan.end_threads) {
    HeldProcess* held = context.capture->find(end.process);
    if (held == nullptr) return make_error(Code::kInternal, "a thread to end is not held");
    parasite::Session session = TRY(parasite::Session::begin(end.tid));
    TRY(session.exit_thread(held->live->site));
    context.freeze->forget_thread(held->live->pid, end.tid);
    ++outcome.ended_threads;
  }
  return {};
}

}  // namespace deltabox
