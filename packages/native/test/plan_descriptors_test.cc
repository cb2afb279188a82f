#include <fcntl.h>

#include <map>

#include "expect.h"
#include "images.h"
#include "random.h"
#include "reconcile/plan.h"

namespace deltabox::test {

namespace {

// One process with slots: fd → description.
TreeImage tree(std::vector<Description> descriptions, std::vector<DescriptorSlot> slots, Incarnation incarnation = 1) {
  TreeImage image;
  image.descriptions = std::move(descriptions);
  ProcessImage only = process(incarnation, {static_cast<int>(incarnation)});
  only.descriptors = std::move(slots);
  image.processes.push_back(std::move(only));
  return image;
}

DescriptorSlot slot(int fd, std::uint32_t description, bool close_on_exec = false) {
  return {fd, close_on_exec, description};
}

bool is_empty(const DescriptorPlan& plan) {
  return plan.make.empty() && plan.install.empty() && plan.share.empty() && plan.close.empty() && plan.flags.empty() &&
         plan.adjust.empty() && plan.unrestorable.empty();
}

}  // namespace

TEST_CASE("an unchanged table needs nothing") {
  const TreeImage image = tree({file("/a", 1), socket_description(2)}, {slot(0, 0), slot(1, 0), slot(5, 1)});
  CHECK(is_empty(plan_descriptors(image, image, {})));
  CHECK(is_empty(plan_descriptors(TreeImage{}, TreeImage{}, {})));
}

TEST_CASE("opened since: closed; closed since: opened anew") {
  const TreeImage target = tree({file("/a", 1)}, {slot(3, 0, true)});
  const TreeImage live = tree({file("/b", 2)}, {slot(4, 0)});
  const DescriptorPlan plan = plan_descriptors(live, target, {});
  CHECK(plan.make == std::vector<std::uint32_t>{0});
  REQUIRE(plan.install.size() == 1);
  CHECK(plan.install[0].fd == 3);
  CHECK(plan.install[0].close_on_exec);
  REQUIRE(plan.close.size() == 1);
  CHECK(plan.close[0].fd == 4);
}

TEST_CASE("an offset or a settable flag that changed is set back in place") {
  const TreeImage target = tree({file("/a", 1, O_RDWR)}, {slot(3, 0), slot(4, 0)});
  TreeImage live = target;
  SUBCASE("offset") { live.descriptions[0].offset = 100; }
  SUBCASE("flags") { live.descriptions[0].status_flags |= O_APPEND; }
  const DescriptorPlan plan = plan_descriptors(live, target, {});
  REQUIRE(plan.adjust.size() == 1);
  CHECK(plan.adjust[0].description == 0);
  CHECK(plan.make.empty());
  CHECK(plan.install.empty());
}

TEST_CASE("another access mode is another description") {
  const TreeImage target = tree({file("/a", 1, O_RDWR)}, {slot(3, 0)});
  const TreeImage live = tree({file("/a", 1, O_RDONLY)}, {slot(3, 0)});
  CHECK(plan_descriptors(live, target, {}).make.size() == 1);
}

TEST_CASE("close-on-exec alone is set alone") {
  const TreeImage target = tree({file("/a", 1)}, {slot(3, 0, true)});
  const TreeImage live = tree({file("/a", 1)}, {slot(3, 0, false)});
  const DescriptorPlan plan = plan_descriptors(live, target, {});
  REQUIRE(plan.flags.size() == 1);
  CHECK(plan.flags[0].close_on_exec);
  CHECK(plan.make.empty());
}

TEST_CASE("a FIFO is the one at its path, whose inode is another on each overlay; without a path its inode tells") {
  Description fifo = file("/workspace/fifo", 1, O_RDWR, 0);
  fifo.kind = DescriptionKind::kPipe;
  fifo.type = "fifo";
  Description seen_later = fifo;
  seen_later.inode = 2;
  const auto is_kept = [](const Description& live, const Description& target, const std::set<int>& switched) {
    return is_empty(plan_descriptors(tree({live}, {slot(3, 0)}), tree({target}, {slot(3, 0)}), switched));
  };
  CHECK(is_kept(seen_later, fifo, {}));
  CHECK_FALSE(is_kept(fifo, fifo, {0}));
  Description elsewhere = fifo;
  elsewhere.path = "/workspace/renamed";
  CHECK_FALSE(is_kept(elsewhere, fifo, {}));
  fifo.volume = seen_later.volume = -1;
  CHECK_FALSE(is_kept(seen_later, fifo, {}));
  CHECK(is_kept(fifo, fifo, {0}));
}

TEST_CASE("slots that shared a description share one again, and slots that did not don't") {
  const Description a = file("/a", 1);
  SUBCASE("split since") {
    const TreeImage target = tree({a}, {slot(3, 0), slot(4, 0)});
    const TreeImage live = tree({a, a}, {slot(3, 0), slot(4, 1)});
    const DescriptorPlan plan = plan_descriptors(live, target, {});
    CHECK(plan.make.empty());
    REQUIRE(plan.share.size() == 1);  // the second gets what the first has
    CHECK(plan.share[0].from_fd == 3);
    CHECK(plan.share[0].fd == 4);
  }
  SUBCASE("joined since") {
    const TreeImage target = tree({a, a}, {slot(3, 0), slot(4, 1)});
    const TreeImage live = tree({a}, {slot(3, 0), slot(4, 0)});
    const DescriptorPlan plan = plan_descriptors(live, target, {});
    CHECK(plan.make == std::vector<std::uint32_t>{1});  // one may keep the live description, the other needs its own
    REQUIRE(plan.install.size() == 1);
    CHECK(plan.install[0].fd == 4);
  }
}

TEST_CASE("files of switched volumes are opened anew, others stay") {
  const TreeImage image = tree({file("/workspace/a", 1, 0, 0), file("/tmp/b", 2, 0, 1)}, {slot(3, 0), slot(4, 1)});
  const DescriptorPlan plan = plan_descriptors(image, image, {0});
  CHECK(plan.make == std::vector<std::uint32_t>{0});
  REQUIRE(plan.install.size() == 1);
  CHECK(plan.install[0].fd == 3);
}

TEST_CASE("a deleted file is always made anew, for all descriptors that share it; a deleted directory stays") {
  Description deleted = file("/workspace/a", 1);
  deleted.deleted = true;
  const TreeImage image = tree({deleted, deleted}, {slot(3, 0), slot(4, 1)});
  for (const TreeImage& live : {image, tree({}, {})}) {
    const DescriptorPlan plan = plan_descriptors(live, image, {});
    CHECK(plan.make == std::vector<std::uint32_t>{0, 1});
    CHECK(plan.install.size() == 2);
    CHECK(plan.unrestorable.empty());
  }
  Description directory = deleted;
  directory.type = "directory";
  const TreeImage with_directory = tree({directory}, {slot(3, 0)});
  CHECK(is_empty(plan_descriptors(with_directory, with_directory, {0})));
  const DescriptorPlan plan = plan_descriptors(tree({}, {}), with_directory, {});
  REQUIRE(plan.unrestorable.size() == 1);
  CHECK(plan.unrestorable[0].kind == "deleted-file");
}

TEST_CASE("what can't be opened anew is reported, and what took its slot is closed") {
  const TreeImage target = tree({socket_description(1)}, {slot(3, 0)});
  const TreeImage live = tree({socket_description(2)}, {slot(3, 0)});
  const DescriptorPlan plan = plan_descriptors(live, target, {});
  REQUIRE(plan.unrestorable.size() == 1);
  CHECK(plan.unrestorable[0].kind == "socket");
  CHECK(plan.make.empty());
  REQUIRE(plan.close.size() == 1);
  CHECK(plan.close[0].fd == 3);
}

TEST_CASE("an object is corrected in place, or made anew where it is gone or can't be corrected") {
  const auto object = [](const char* type, ObjectState state) {
    Description description;
    description.kind = DescriptionKind::kObject;
    description.type = type;
    description.state = state;
    return description;
  };
  const TreeImage target = tree({object("eventfd", EventfdState{3, false})}, {slot(3, 0), slot(4, 0)});
  TreeImage live = target;
  CHECK(is_empty(plan_descriptors(live, target, {})));
  live.descriptions[0].state = EventfdState{8, false};
  const DescriptorPlan corrected = plan_descriptors(live, target, {});
  CHECK(corrected.make.empty());
  REQUIRE(corrected.adjust.size() == 1);
  live.descriptions[0].state = EventfdState{3, true};
  CHECK(plan_descriptors(live, target, {}).make.size() == 1);
  CHECK(plan_descriptors(live, target, {}).install.size() == 2);
  live.descriptions[0] = object("signalfd", SignalfdState{1});
  CHECK(plan_descriptors(live, target, {}).make.size() == 1);
  CHECK(plan_descriptors(tree({}, {}), target, {}).unrestorable.empty());
}

TEST_CASE("descriptors of processes that will end are nobody's business") {
  const TreeImage target = tree({file("/a", 1)}, {slot(3, 0)}, 1);
  TreeImage live = tree({file("/a", 1), file("/b", 2)}, {slot(3, 0)}, 1);
  ProcessImage newborn = process(2, {20});
  newborn.descriptors = {slot(3, 1), slot(4, 0)};
  live.processes.push_back(newborn);
  CHECK(is_empty(plan_descriptors(live, target, {})));
}

TEST_CASE("a description shared by two processes is one") {
  const auto two = [](std::uint32_t second) {
    TreeImage image = tree({file("/a", 1), file("/a", 1)}, {slot(3, 0)}, 1);
    ProcessImage other = process(2, {20});
    other.descriptors = {slot(3, second)};
    image.processes.push_back(other);
    return image;
  };
  CHECK(is_empty(plan_descriptors(two(0), two(0), {})));
  const DescriptorPlan plan = plan_descriptors(two(1), two(0), {});
  CHECK(plan.make.empty());
  REQUIRE(plan.share.size() == 1);
  CHECK(plan.share[0].from_process == 1);
  CHECK(plan.share[0].process == 2);
}

TEST_CASE("for random tables every slot of the target ends up with its own description and no other slot stays") {
  Random random(6);
  const auto draw = [&] {
    TreeImage image;
    for (std::uint64_t count = 1 + random.below(5); count > 0; --count)
      image.descriptions.push_back(file("/f", random.below(3)));
    for (Incarnation incarnation = 1; incarnation <= 2; ++incarnation) {
      ProcessImage one = process(incarnation, {static_cast<int>(incarnation)});
      for (int fd = 0; fd < 6; ++fd) {
        if (random.one_in(2))
          one.descriptors.push_back(slot(fd, static_cast<std::uint32_t>(random.below(image.descriptions.size()))));
      }
      image.processes.push_back(one);
    }
    return image;
  };
  for (int round = 0; round < 5000; ++round) {
    const TreeImage live = draw();
    const TreeImage target = draw();
    const DescriptorPlan plan = plan_descriptors(live, target, {});
    // Identities: live descriptions are 0…; those opened anew are 100 + their index in the target.
    std::map<std::pair<Incarnation, int>, std::uint32_t> table;
    for (const ProcessImage& one : live.processes) {
      for (const DescriptorSlot& entry : one.descriptors) table[{one.incarnation, entry.fd}] = entry.description;
    }
    for (const SlotClose& step : plan.close) REQUIRE(table.erase({step.process, step.fd}) == 1);
    std::vector<std::uint32_t> duplicates;
    for (const SlotShare& step : plan.share) duplicates.push_back(table.at({step.from_process, step.from_fd}));
    for (std::size_t index = 0; index < plan.share.size(); ++index) {
      table[{plan.share[index].process, plan.share[index].fd}] = duplicates[index];
    }
    for (const SlotInstall& step : plan.install) table[{step.process, step.fd}] = 100 + step.description;
    std::map<std::uint32_t, std::uint32_t> identity_of;  // target description → identity in the table
    std::map<std::uint32_t, std::uint32_t> description_of;
    std::size_t slots = 0;
    for (const ProcessImage& one : target.processes) {
      for (const DescriptorSlot& entry : one.descriptors) {
        ++slots;
        REQUIRE(table.contains({one.incarnation, entry.fd}));
        const std::uint32_t identity = table.at({one.incarnation, entry.fd});
        REQUIRE(identity_of.emplace(entry.description, identity).first->second == identity);
        REQUIRE(description_of.emplace(identity, entry.description).first->second == entry.description);
        const Description& there = identity >= 100 ? target.descriptions[identity - 100] : live.descriptions[identity];
        REQUIRE(there.inode == target.descriptions[entry.description].inode);
      }
    }
    REQUIRE(table.size() == slots);
  }
}

}  // namespace deltabox::test
