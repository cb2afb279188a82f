#include <sys/epoll.h>

#include "expect.h"
#include "images.h"
#include "reconcile/plan.h"
#include "reconcile/plan_epolls.h"

namespace deltabox::test {

namespace {

constexpr std::uint32_t kIn = EPOLLIN;

Description object(const char* type, ObjectState state) {
  Description description;
  description.kind = DescriptionKind::kObject;
  description.type = type;
  description.state = std::move(state);
  return description;
}
Description event(std::uint64_t count = 0) { return object("eventfd", EventfdState{count, false}); }

EpollEntry entry(int fd, std::int64_t description, std::uint32_t events = kIn, std::uint64_t data = 0) {
  EpollEntry one;
  one.fd = fd;
  one.events = events;
  one.data = data;
  one.description = description;
  return one;
}
Description epoll(std::vector<EpollEntry> entries) { return object("eventpoll", EpollState{std::move(entries)}); }

TreeImage tree(std::vector<Description> descriptions, std::vector<DescriptorSlot> slots) {
  TreeImage image;
  image.descriptions = std::move(descriptions);
  ProcessImage only = process(1, {1});
  only.descriptors = std::move(slots);
  image.processes.push_back(std::move(only));
  return image;
}

// 3: an eventfd, 4: an epoll that watches it.
TreeImage simple(std::uint32_t events = kIn, std::uint64_t data = 0) {
  return tree({event(), epoll({entry(3, 0, events, data)})}, {{3, false, 0}, {4, false, 1}});
}

}  // namespace

TEST_CASE("an epoll that watches the same in the same way needs nothing") {
  const DescriptorPlan plan = plan_descriptors(simple(), simple(), {});
  CHECK(plan.make.empty());
  CHECK(plan.epolls.empty());
}

TEST_CASE("other events or data are changed in place") {
  for (const TreeImage& live : {simple(kIn | EPOLLOUT), simple(kIn, 5)}) {
    const DescriptorPlan plan = plan_descriptors(live, simple(), {});
    CHECK(plan.make.empty());
    REQUIRE(plan.epolls.size() == 1);
    CHECK_FALSE(plan.epolls[0].add);
    CHECK(plan.epolls[0].epoll_fd == 4);
    CHECK(plan.epolls[0].entry.data == 0);
  }
}

TEST_CASE("what is told once is looked at anew") {
  const auto edge = static_cast<std::uint32_t>(EPOLLET) | kIn;
  const DescriptorPlan plan = plan_descriptors(simple(edge), simple(edge), {});
  REQUIRE(plan.epolls.size() == 1);
  CHECK_FALSE(plan.epolls[0].add);
}

TEST_CASE("an epoll is made anew when it watches more, less, or what was made anew") {
  const TreeImage target = simple();
  TreeImage live = simple();
  SUBCASE("less") { live.descriptions[1] = epoll({}); }
  SUBCASE("more") { live.descriptions[1] = epoll({entry(3, 0), entry(9, 0)}); }
  SUBCASE("under another number") { live.descriptions[1] = epoll({entry(9, 0)}); }
  SUBCASE("something that nobody has") { live.descriptions[1] = epoll({entry(3, -1)}); }
  SUBCASE("what is made anew") { live.descriptions[0] = object("eventfd", EventfdState{0, true}); }
  SUBCASE("closed") { live.processes[0].descriptors.pop_back(); }
  const DescriptorPlan plan = plan_descriptors(live, target, {});
  CHECK(plan.make.back() == 1);
  REQUIRE(plan.epolls.size() == 1);
  CHECK(plan.epolls[0].add);
  CHECK(plan.epolls[0].entry.fd == 3);
  CHECK_FALSE(plan.epolls[0].from);
}

TEST_CASE("an exclusive entry can't be changed, so the epoll is made anew") {
  const auto exclusive = static_cast<std::uint32_t>(EPOLLEXCLUSIVE) | kIn;
  CHECK(plan_descriptors(simple(exclusive), simple(exclusive), {}).make.empty());
  const DescriptorPlan plan = plan_descriptors(simple(exclusive, 5), simple(exclusive), {});
  CHECK(plan.make == std::vector<std::uint32_t>{1});
  REQUIRE(plan.epolls.size() == 1);
  CHECK(plan.epolls[0].add);
}

TEST_CASE("one that watches an epoll that is made anew is made anew") {
  const auto nested = [](Description inner) {
    return tree({event(), std::move(inner), epoll({entry(4, 1)}), epoll({entry(5, 2)})},
                {{3, false, 0}, {4, false, 1}, {5, false, 2}, {6, false, 3}});
  };
  const TreeImage target = nested(epoll({entry(3, 0)}));
  CHECK(plan_descriptors(target, target, {}).make.empty());
  const DescriptorPlan plan = plan_descriptors(nested(epoll({})), target, {});
  CHECK(plan.make == std::vector<std::uint32_t>{1, 2, 3});
  CHECK(plan.epolls.size() == 3);
}

TEST_CASE("an inotify of a switched volume is made anew, with the epoll that watches it; unread events are reported") {
  InotifyState watching;
  watching.watches.push_back({1, 2, 3, 4, 0, "/workspace"});
  TreeImage image = tree({object("inotify", watching), epoll({entry(3, 0)})}, {{3, false, 0}, {4, false, 1}});
  CHECK(plan_descriptors(image, image, {1}).make.empty());
  CHECK(plan_descriptors(image, image, {0}).make == std::vector<std::uint32_t>{0, 1});
  CHECK(plan_descriptors(image, image, {0}).unrestorable.empty());
  const std::vector<EpollChange> again = plan_watching_again(image, {0});
  REQUIRE(again.size() == 1);
  CHECK(again[0].add);
  CHECK(again[0].epoll_fd == 4);
  CHECK(plan_watching_again(image, {1}).empty());
  watching.queued_bytes = 16;
  image.descriptions[0].state = watching;
  CHECK(plan_descriptors(image, image, {}).unrestorable.empty());
  REQUIRE(plan_descriptors(image, image, {0}).unrestorable.size() == 1);
  CHECK(plan_descriptors(image, image, {0}).unrestorable[0].kind == "inotify");
}

TEST_CASE("what is watched under a number that leads elsewhere is put there, and what nobody has is reported") {
  const TreeImage target = tree({event(), event(), epoll({entry(3, 1), entry(8, 1), entry(9, -1)})},
                                {{3, false, 0}, {5, false, 1}, {4, false, 2}});
  const DescriptorPlan plan = plan_descriptors(tree({}, {}), target, {});
  REQUIRE(plan.epolls.size() == 2);
  for (const EpollChange& change : plan.epolls) {
    REQUIRE(change.from);
    CHECK(*change.from == std::pair<Incarnation, int>(1, 5));
  }
  REQUIRE(plan.unrestorable.size() == 1);
  CHECK(plan.unrestorable[0].kind == "eventpoll");
}

}  // namespace deltabox::test
