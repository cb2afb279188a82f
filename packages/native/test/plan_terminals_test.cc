#include "reconcile/plan_terminals.h"
#include "expect.h"
#include "images.h"
#include "reconcile/plan.h"

namespace deltabox::test {

namespace {

TerminalImage terminal(int number, std::int32_t session, std::uint64_t command = 0) {
  TerminalImage made;
  made.number = number;
  made.session = session;
  made.command = command;
  return made;
}

ProcessImage leader(Incarnation incarnation, int pid) {
  ProcessImage made = process(incarnation, {pid});
  made.pid = InsidePid{pid};
  made.session = pid;
  return made;
}

TreeImage tree(std::vector<ProcessImage> processes, std::vector<TerminalImage> terminals) {
  TreeImage made;
  made.processes = std::move(processes);
  made.terminals = std::move(terminals);
  return made;
}

}  // namespace

TEST_CASE("terminals: what is as it was is left alone") {
  const TreeImage same = tree({leader(1, 10)}, {terminal(0, 10, 7), terminal(3, 0)});
  const TerminalPlan plan = plan_terminals(same, same);
  CHECK(plan.make.empty());
  CHECK(plan.sessions.empty());
}

TEST_CASE("terminals: one that is gone is made, and one whose master end somebody else has") {
  const TreeImage target = tree({}, {terminal(0, 0, 7), terminal(1, 0), terminal(2, 0)});
  const TreeImage live = tree({}, {terminal(0, 0, 8), terminal(2, 0), terminal(5, 0)});
  CHECK(plan_terminals(live, target).make == std::set<int>{0, 1});
}

TEST_CASE(
    "terminals: leaders that live on get theirs back, also when it is made anew, or lose one that they got since") {
  const TreeImage live = tree({leader(1, 10), leader(2, 20), leader(3, 30), leader(4, 40)},
                              {terminal(1, 10), terminal(2, 20), terminal(4, 40)});
  const TreeImage target = tree({leader(1, 10), leader(2, 20), leader(3, 30), leader(4, 40)},
                                {terminal(2, 10), terminal(3, 30), terminal(4, 40)});
  const TerminalPlan plan = plan_terminals(live, target);
  CHECK(plan.make == std::set<int>{3});
  CHECK(plan.sessions == std::vector<SessionTerminal>{{10, 2}, {20, -1}, {30, 3}});
}

TEST_CASE("terminals: a leader that is made takes its own") {
  const TreeImage target = tree({leader(1, 10)}, {terminal(0, 10)});
  const TerminalPlan plan = plan_terminals(tree({}, {}), target);
  CHECK(plan.make == std::set<int>{0});
  CHECK(plan.sessions.empty());
}

TEST_CASE("terminals: descriptors of one that is made are opened anew, whatever has its number now") {
  const auto with_descriptor = [](std::uint64_t command) {
    TreeImage made = tree({leader(1, 10)}, {terminal(0, 10, command)});
    Description description;
    description.kind = DescriptionKind::kTerminal;
    description.type = "terminal";
    description.terminal = 0;
    made.descriptions.push_back(description);
    made.processes[0].descriptors.push_back({5, false, 0});
    return made;
  };
  CHECK(plan_descriptors(with_descriptor(7), with_descriptor(7), {}).make.empty());
  CHECK(plan_descriptors(with_descriptor(8), with_descriptor(7), {}).make == std::vector<std::uint32_t>{0});
}

}  // namespace deltabox::test
