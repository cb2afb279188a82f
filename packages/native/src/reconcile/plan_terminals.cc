#include "reconcile/plan_terminals.h"

namespace deltabox {

TerminalPlan plan_terminals(const TreeImage& live, const TreeImage& target) {
  TerminalPlan plan;
  for (const TerminalImage& wanted : target.terminals) {
    const TerminalImage* present = live.find_terminal(wanted.number);
    if (present == nullptr || present->command != wanted.command) plan.make.insert(wanted.number);
  }
  for (const ProcessImage& leader : target.processes) {
    if (leader.session != leader.pid.value || live.find(leader.incarnation) == nullptr) continue;
    const TerminalImage* present = live.terminal_of(leader.session);
    const TerminalImage* wanted = target.terminal_of(leader.session);
    const int number = wanted != nullptr ? wanted->number : -1;
    const bool has_it = present != nullptr ? present->number == number : number < 0;
    if (!has_it || plan.make.contains(number)) plan.sessions.push_back({leader.session, number});
  }
  return plan;
}

}  // namespace deltabox
