#include <signal.h>

#include "expect.h"
#include "images.h"
#include "reconcile/plan_posix_timers.h"
#include "reconcile/preview.h"

namespace deltabox::test {

namespace {

PosixTimer timer(int id, int seconds = 0) {
  PosixTimer made;
  made.id = id;
  made.clock = 1;
  made.left.it_value.tv_sec = seconds;
  return made;
}

ProcessImage with_timers(std::vector<PosixTimer> timers) {
  ProcessImage image = process(1, {10});
  image.posix_timers = std::move(timers);
  return image;
}

}  // namespace

TEST_CASE("the kernel's list of timers") {
  CHECK(parse_posix_timers("").empty());
  const std::vector<PosixTimer> timers = parse_posix_timers(
      "ID: 3\nsignal: 34/00007f0012345678\nnotify: signal/tid.77\nClockID: -6\n"
      "ID: 10\nsignal: 0/0000000000000000\nnotify: none/pid.7\nClockID: 1\n");
  REQUIRE(timers.size() == 2);
  CHECK(timers[0].id == 3);
  CHECK(timers[0].signal == 34);
  CHECK(timers[0].value == 0x7f0012345678);
  CHECK(timers[0].notify == (SIGEV_SIGNAL | SIGEV_THREAD_ID));
  CHECK(timers[0].thread == InsidePid{77});
  CHECK(timers[0].clock == -6);
  CHECK(timers[1].id == 10);
  CHECK(timers[1].notify == SIGEV_NONE);
  CHECK(timers[1].thread == InsidePid{0});
  CHECK(timers[1].clock == 1);
}

TEST_CASE("timers that agree need nothing, running ones are armed again") {
  const ProcessImage idle = with_timers({timer(0), timer(1)});
  CHECK(plan_posix_timers(idle, idle).empty());
  const PosixTimerPlan plan =
      plan_posix_timers(with_timers({timer(0), timer(1, 5)}), with_timers({timer(0, 7), timer(1)}));
  CHECK(plan.remove.empty());
  CHECK(plan.make.empty());
  REQUIRE(plan.arm.size() == 2);
  CHECK(plan.arm[0].left.it_value.tv_sec == 7);
  CHECK(plan.arm[1].left.it_value.tv_sec == 0);
}

TEST_CASE("newer timers go, deleted ones come back, another under the same number is both") {
  PosixTimer other = timer(2);
  other.signal = SIGUSR1;
  const PosixTimerPlan plan = plan_posix_timers(with_timers({other, timer(5)}), with_timers({timer(1, 4), timer(2)}));
  REQUIRE(plan.remove.size() == 2);
  CHECK(plan.remove[0].id == 2);
  CHECK(plan.remove[1].id == 5);
  REQUIRE(plan.make.size() == 2);
  CHECK(plan.make[0].id == 1);
  CHECK(plan.make[1].id == 2);
  CHECK(plan.arm.size() == 2);
}

TEST_CASE("a timer over one of several threads' processor time can't be made again") {
  PosixTimer of_thread = timer(0, 4);
  of_thread.clock = -2;
  ProcessImage target = with_timers({of_thread});
  CHECK(plan_posix_timers(with_timers({}), target).make.size() == 1);  // it has one thread
  target.threads.emplace_back();
  const PosixTimerPlan plan = plan_posix_timers(with_timers({}), target);
  CHECK(plan.make.empty());
  REQUIRE(plan.unrestorable.size() == 1);
  CHECK(plan.unrestorable[0].kind == "posix-timer");
  CHECK(plan_posix_timers(target, target).unrestorable.empty());  // still there
  TreeImage before;
  TreeImage now;
  before.processes.push_back(target);
  now.processes.push_back(with_timers({}));
  CHECK(preview_not_restored(now, before, {}).size() == 1);
}

}  // namespace deltabox::test
