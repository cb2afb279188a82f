#include "expect.h"
#include "images.h"
#include "reconcile/plan.h"
#include "reconcile/preview.h"

namespace deltabox::test {

namespace {

TreeImage tree(std::vector<ProcessImage> processes) {
  TreeImage image;
  image.processes = std::move(processes);
  return image;
}

}  // namespace

TEST_CASE("an unchanged tree needs nothing") {
  const TreeImage image = tree({process(1, {10, 11}), process(2, {20})});
  const TreePlan plan = plan_tree(image, image);
  CHECK(plan.dead.empty());
  CHECK(plan.end_processes.empty());
  CHECK(plan.end_threads.empty());
}

TEST_CASE("what was born since is ended") {
  const TreeImage target = tree({process(1, {10})});
  const TreeImage live = tree({process(1, {10, 12}), process(3, {30, 31})});
  const TreePlan plan = plan_tree(live, target);
  CHECK(plan.dead.empty());
  CHECK(plan.end_processes == std::vector<Incarnation>{3});
  REQUIRE(plan.end_threads.size() == 1);  // the threads of an ended process end with it
  CHECK(plan.end_threads[0].process == 1);
  CHECK(plan.end_threads[0].tid == HostTid{12});
}

TEST_CASE("what died since is named") {
  const TreeImage target = tree({process(1, {10, 11}), process(2, {20})});
  const TreeImage live = tree({process(1, {10})});
  const TreePlan plan = plan_tree(live, target);
  REQUIRE(plan.dead.size() == 2);
  CHECK(plan.dead[0].kind == "thread");
  CHECK(plan.dead[0].pid == 1);
  CHECK(plan.dead[1].kind == "process");
  CHECK(plan.dead[1].pid == 2);
}

TEST_CASE("another life of the same pid is another process") {
  TreeImage target = tree({process(1, {10})});
  TreeImage live = tree({process(7, {10})});
  live.processes[0].pid = target.processes[0].pid;
  const TreePlan plan = plan_tree(live, target);
  CHECK(plan.dead.size() == 1);
  CHECK(plan.end_processes == std::vector<Incarnation>{7});
}

TEST_CASE("empty trees") {
  const TreeImage some = tree({process(1, {10})});
  CHECK(plan_tree(some, TreeImage{}).end_processes.size() == 1);
  CHECK(plan_tree(TreeImage{}, some).dead.size() == 1);
  CHECK(plan_tree(TreeImage{}, TreeImage{}).dead.empty());
}

TEST_CASE("a preview names what no call takes back") {
  const auto mappings = std::make_shared<const MappingList>(MappingList{anonymous(1, 2)});
  TreeImage target = tree({process(1, {10})});
  target.processes[0].mappings = mappings;
  target.zombies = {40, 41};
  TreeImage live = tree({process(1, {10})});
  live.processes[0].mappings = mappings;
  live.zombies = {41};
  live.processes[0].session = 9;
  live.processes[0].credentials.uids[1] = 1000;
  live.processes[0].group_stopped = true;
  std::vector<std::string> kinds;
  for (const Notice& notice : preview_not_restored(live, target, {})) kinds.push_back(notice.kind);
  CHECK(kinds == std::vector<std::string>{"zombie", "session", "credentials", "job-control"});
  CHECK(preview_not_restored(target, target, {}).empty());
}

}  // namespace deltabox::test
