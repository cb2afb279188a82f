#include <algorithm>

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

constexpr InsidePid kInit{1};

ProcessImage in_session(Incarnation incarnation, int parent, int session) {
  ProcessImage image = process(incarnation, {static_cast<int>(10 * incarnation)});
  image.parent = InsidePid{parent};
  image.session = image.process_group = session;
  return image;
}

// Leads a session of its own.
ProcessImage child_of_init(Incarnation incarnation, std::initializer_list<int> threads) {
  ProcessImage image = process(incarnation, threads);
  image.parent = kInit;
  image.session = image.process_group = image.pid.value;
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

TEST_CASE("a thread is known by its number inside, also one that another has got since") {
  const TreeImage target = tree({process(1, {10, 11})});
  TreeImage live = target;
  live.processes[0].threads[1].tid = HostTid{99};
  const TreePlan plan = plan_tree(live, target);
  CHECK(plan.end_threads.empty());
  CHECK(plan.make_threads.empty());
}

TEST_CASE("what died since is made again") {
  const TreeImage target = tree({child_of_init(11, {10, 15}), child_of_init(12, {20})});
  const TreeImage live = tree({child_of_init(11, {10})});
  const TreePlan plan = plan_tree(live, target);
  CHECK(plan.dead.empty());
  CHECK(plan.births == std::vector<Birth>{{Birth::Role::kProcess, 12, InsidePid{12}, kInit, false, true, 12, 0}});
  REQUIRE(plan.make_threads.size() == 1);
  CHECK(plan.make_threads[0].process == 11);
  CHECK(plan.make_threads[0].tid == InsidePid{15});
}

TEST_CASE("another life of the same pid is another process") {
  TreeImage target = tree({child_of_init(11, {10})});
  TreeImage live = tree({child_of_init(17, {10})});
  live.processes[0].pid = target.processes[0].pid;
  const TreePlan plan = plan_tree(live, target);
  CHECK(plan.births.size() == 1);
  CHECK(plan.end_processes == std::vector<Incarnation>{17});
}

TEST_CASE("empty trees") {
  const TreeImage some = tree({child_of_init(11, {10})});
  CHECK(plan_tree(some, TreeImage{}).end_processes.size() == 1);
  CHECK(plan_tree(TreeImage{}, some).births.size() == 1);
  CHECK_FALSE(plan_tree(TreeImage{}, TreeImage{}).makes_anything());
}

TEST_CASE("a process that runs another program keeps its leader and gets its program back") {
  TreeImage target = tree({child_of_init(11, {10, 11})});
  TreeImage live = tree({child_of_init(11, {10, 12})});
  live.processes[0].address_space = 5;
  const TreePlan plan = plan_tree(live, target);
  CHECK(plan.reload == std::vector<Incarnation>{11});
  CHECK(plan.births.empty());
  CHECK(plan.make_threads.empty());  // all of them are made with the program
  REQUIRE(plan.end_threads.size() == 1);
  CHECK(plan.end_threads[0].tid == HostTid{12});
}

TEST_CASE("with a dead leader of a session all of the session is made again") {
  // 11 leads, 12 is its child and, in the live state, init's; 13 is a child of 12; 14 is of another session
  TreeImage target =
      tree({child_of_init(11, {10}), in_session(12, 11, 11), in_session(13, 12, 11), child_of_init(14, {40})});
  TreeImage live = tree({in_session(12, 11, 11), in_session(13, 12, 11), child_of_init(14, {40})});
  live.processes[0].parent = kInit;
  const TreePlan plan = plan_tree(live, target);
  CHECK(plan.end_processes == std::vector<Incarnation>{12, 13});
  REQUIRE(plan.births.size() == 3);
  CHECK(plan.births[0].pid == InsidePid{11});
  CHECK(plan.births[0].new_session);
  CHECK(plan.births[1].maker == InsidePid{11});
  CHECK(plan.births[2].maker == InsidePid{12});
}

TEST_CASE("a dead child is made by its parent, which lives on") {
  const TreeImage target = tree({child_of_init(11, {10}), in_session(12, 11, 11)});
  const TreeImage live = tree({child_of_init(11, {10})});
  const TreePlan plan = plan_tree(live, target);
  CHECK(plan.end_processes.empty());
  CHECK(plan.births ==
        std::vector<Birth>{{Birth::Role::kProcess, 12, InsidePid{12}, InsidePid{11}, false, false, 11, 0}});
}

TEST_CASE("an orphan is made by a member of its session") {
  TreeImage target = tree({child_of_init(11, {10}), in_session(12, 11, 11)});
  target.processes[1].parent = kInit;
  const TreeImage live = tree({child_of_init(11, {10})});
  const TreePlan plan = plan_tree(live, target);
  REQUIRE(plan.births.size() == 1);
  CHECK(plan.births[0].orphan);
  CHECK(plan.births[0].maker == InsidePid{11});
}

TEST_CASE("where the session's leader is gone for good, somebody stands in for it") {
  TreeImage target = tree({in_session(12, 11, 19)});
  target.processes[0].parent = kInit;
  const TreePlan plan = plan_tree(TreeImage{}, target);
  REQUIRE(plan.births.size() == 2);
  CHECK(plan.births[0] == Birth{Birth::Role::kStandIn, 0, InsidePid{19}, kInit, false, true, 19, 0});
  CHECK(plan.births[1].orphan);
  CHECK(plan.births[1].maker == InsidePid{19});
}

TEST_CASE("a group without its leader gets its number from somebody who stands in") {
  TreeImage target = tree({child_of_init(11, {10}), in_session(12, 11, 11)});
  target.processes[1].process_group = 33;
  const TreeImage live = tree({child_of_init(11, {10})});
  const TreePlan plan = plan_tree(live, target);
  REQUIRE(plan.births.size() == 2);
  CHECK(plan.births[1].role == Birth::Role::kStandIn);
  CHECK(plan.births[1].pid == InsidePid{33});
  CHECK_FALSE(plan.births[1].new_session);
  // one member that lives keeps the number
  TreeImage with_member = live;
  with_member.processes.push_back(target.processes[1]);
  CHECK(plan_tree(with_member, target).births.empty());
}

TEST_CASE("nobody stands in for a group whose number is that of a process, in whatever group that is") {
  for (const int then : {13, 11}) {
    for (const bool lives : {true, false}) {
      TreeImage target = tree({child_of_init(11, {10}), in_session(13, 11, 11), in_session(12, 11, 11)});
      target.processes[1].process_group = then;
      target.processes[2].process_group = 13;
      TreeImage live = tree({child_of_init(11, {10})});
      if (lives) live.processes.push_back(in_session(13, 11, 11));
      const std::vector<Birth> births = plan_tree(live, target).births;
      CHECK(births.size() == (lives ? 1 : 2));
      CHECK(std::none_of(births.begin(), births.end(),
                         [](const Birth& birth) { return birth.role == Birth::Role::kStandIn; }));
    }
  }
}

TEST_CASE("a zombie that had left the group with its number is made again, where that has to be") {
  TreeImage target = tree({child_of_init(11, {10}), in_session(12, 11, 11), in_session(13, 11, 11)});
  target.processes[1].process_group = target.processes[2].process_group = 33;
  target.zombies.push_back({InsidePid{33}, InsidePid{11}, 11, 11, 9});
  TreeImage live = target;
  live.processes.pop_back();
  TreePlan plan = plan_tree(live, target);  // one member keeps the group
  CHECK(plan.births.size() == 1);
  CHECK(plan.collect.empty());
  live.processes.pop_back();
  plan = plan_tree(live, target);
  CHECK(plan.births.size() == 3);
  CHECK(plan.collect == target.zombies);
}

TEST_CASE("who changed its session or users is made again, and its children with it") {
  TreeImage target = tree({child_of_init(11, {10}), in_session(12, 11, 11), in_session(13, 12, 11)});
  TreeImage live = target;
  for (std::uint32_t& id : live.processes[1].credentials.uids) id = 1000;
  CHECK(processes_to_make(live, target) == std::set<Incarnation>{12, 13});
  live = target;
  live.processes[2].session = 13;
  CHECK(processes_to_make(live, target) == std::set<Incarnation>{13});
}

TEST_CASE("who is made again comes from somebody whose child can become what it was") {
  TreeImage target = tree({child_of_init(11, {10}), in_session(12, 11, 11), in_session(13, 12, 11)});
  const auto set_nice = [](ProcessImage& image, int nice) {
    for (ThreadImage& thread : image.threads) thread.attributes.scheduling.nice = nice;
  };
  SUBCASE("a grandchild, of who stays") {
    TreeImage live = target;
    set_nice(target.processes[1], 5);
    live.processes.resize(1);
    set_nice(live.processes[0], 3);
    CHECK(processes_to_make(live, target) == std::set<Incarnation>{11, 12, 13});
    set_nice(live.processes[0], 0);
    CHECK(processes_to_make(live, target) == std::set<Incarnation>{12, 13});
  }
  SUBCASE("an orphan, of a member of its session") {
    target.processes[1].parent = target.processes[2].parent = kInit;
    TreeImage live = target;
    live.processes.resize(2);
    set_nice(live.processes[0], 3);
    set_nice(target.processes[0], 3);
    CHECK(processes_to_make(live, target) == std::set<Incarnation>{13});
    CHECK(plan_tree(live, target).births.at(0).maker == InsidePid{12});
    set_nice(live.processes[1], 3);
    set_nice(target.processes[1], 3);
    CHECK(processes_to_make(live, target) == std::set<Incarnation>{11, 12, 13});
  }
}

TEST_CASE("a group has its number from a leader that is a zombie, whether it stayed or is made") {
  TreeImage target = tree({child_of_init(11, {10}), in_session(12, 11, 11)});
  target.processes[1].process_group = 33;
  target.zombies.push_back({InsidePid{33}, InsidePid{11}, 11, 33, 9});
  TreeImage live = tree({child_of_init(11, {10})});
  live.zombies = target.zombies;
  std::vector<Birth> births = plan_tree(live, target).births;
  REQUIRE(births.size() == 1);
  CHECK(births[0].pid == InsidePid{12});
  live.zombies.clear();
  births = plan_tree(live, target).births;
  REQUIRE(births.size() == 2);
  CHECK(std::none_of(births.begin(), births.end(),
                     [](const Birth& birth) { return birth.role == Birth::Role::kStandIn; }));
}

TEST_CASE("zombies whose status was collected come back, and those that stayed stay") {
  TreeImage target = tree({child_of_init(11, {10})});
  target.zombies = {{InsidePid{40}, InsidePid{11}, 11, 11, 256}, {InsidePid{41}, InsidePid{11}, 11, 11, 0}};
  TreeImage live = tree({child_of_init(11, {10})});
  live.zombies = {target.zombies[1]};
  const TreePlan plan = plan_tree(live, target);
  CHECK(plan.births ==
        std::vector<Birth>{{Birth::Role::kZombie, 0, InsidePid{40}, InsidePid{11}, false, false, 11, 256}});
}

TEST_CASE("members of a session, or of a group, are made again with a zombie whose number they keep") {
  for (const int group : {33, 12}) {
    TreeImage live = tree({child_of_init(11, {10}), in_session(12, 1, 33)});
    live.processes[1].process_group = group;
    TreeImage target = live;
    target.zombies = {{InsidePid{33}, InsidePid{11}, 33, 33, 0}};
    const std::vector<Birth> births = plan_tree(live, target).births;
    REQUIRE(births.size() == 2);
    CHECK(births[0].role == Birth::Role::kZombie);
    CHECK(births[0].new_session);
    CHECK(births[1].pid == InsidePid{12});
    CHECK(births[1].maker == InsidePid{33});
  }
}

TEST_CASE("who made a zombie that leads a session is made again, where the session can't come from it as it is") {
  TreeImage target = tree({child_of_init(11, {10}), in_session(12, 1, 33)});
  target.zombies = {{InsidePid{33}, InsidePid{11}, 33, 33, 0}};
  TreeImage live = tree({child_of_init(11, {10})});
  const auto made = [&](int pid) {
    const std::vector<Birth> births = plan_tree(live, target).births;
    return std::any_of(births.begin(), births.end(), [&](const Birth& birth) { return birth.pid == InsidePid{pid}; });
  };
  CHECK(!made(11));
  CHECK(made(12));
  live.processes[0].threads[0].attributes.scheduling.nice = 19;
  CHECK(made(11));
}

TEST_CASE("a child whose parent has left their session can't be made") {
  TreeImage target = tree({child_of_init(11, {10}), in_session(12, 11, 17)});
  const TreePlan plan = plan_tree(tree({child_of_init(11, {10})}), target);
  REQUIRE(plan.dead.size() == 1);
  CHECK(plan.dead[0].pid == 12);
}

TEST_CASE("a preview names what no call takes back") {
  const auto mappings = std::make_shared<const MappingList>(MappingList{anonymous(1, 2)});
  TreeImage target = tree({process(1, {10})});
  target.processes[0].mappings = mappings;
  const TreeImage live = target;
  target.processes[0].working_dir_deleted = true;
  std::vector<std::string> kinds;
  for (const Notice& notice : preview_not_restored(live, target, {})) kinds.push_back(notice.kind);
  CHECK(kinds == std::vector<std::string>{"working-directory"});
  CHECK(preview_not_restored(live, live, {}).empty());
}

}  // namespace deltabox::test
