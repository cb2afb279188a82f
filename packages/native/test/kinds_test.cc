// What fdinfo says of objects, and what a plan makes of it. The texts are those of a running kernel.
#include <sys/sysmacros.h>
#include <sys/timerfd.h>

#include "deltacr/kinds/fdinfo.h"
#include "deltacr/kinds/state.h"
#include "expect.h"
#include "reconcile/kinds/correction.h"
#include "reconcile/kinds/objects.h"

namespace deltabox::test {

TEST_CASE("fdinfo: values, fields and pairs") {
  const std::string text = "pos:\t0\nflags:\t02000002\nit_value: (12, 345)\nlast: 7";
  CHECK(fdinfo::value_of(text, "flags") == "02000002");
  CHECK(fdinfo::value_of(text, "last") == "7");
  CHECK(!fdinfo::value_of(text, "it"));
  CHECK(fdinfo::pair_of("(12, 345)") == std::pair<std::uint64_t, std::uint64_t>(12, 345));
  CHECK(!fdinfo::pair_of("(12)"));
  CHECK(!fdinfo::pair_of("(1, x)"));
  CHECK(!fdinfo::number("12x", 10));
  CHECK(!fdinfo::number("", 10));
  const std::string_view line = "tfd:       14 events: 80000019 data:                7  pos:0 ino:2b6995 sdev:9";
  CHECK(fdinfo::field(line, "tfd") == "14");
  CHECK(fdinfo::field(line, "data") == "7");
  CHECK(fdinfo::field(line, "sdev") == "9");
  CHECK(fdinfo::field(line, "no").empty());
  CHECK(fdinfo::device_of(0xfe00001) == makedev(0xfe, 1));
}

TEST_CASE("eventfd: the count is hexadecimal") {
  const EventfdState state =
      must(parse_eventfd("pos:\t0\neventfd-count:       10000000007\neventfd-id: 41\neventfd-semaphore: 1\n"));
  CHECK(state.count == 0x10000000007);
  CHECK(state.semaphore);
  CHECK(!parse_eventfd("eventfd-count: 1\n").ok());  // before Linux 6.5
  CHECK(!parse_eventfd("pos:\t0\n").ok());
}

TEST_CASE("epoll: entries of one number are counted") {
  const EpollState epoll =
      must(parse_epoll("pos:\t0\n"
                       "tfd:        7 events: 80000019 data:                7  pos:0 ino:2b6995 sdev:9\n"
                       "tfd:        3 events:       19 data: ffffffffffffffff  pos:0 ino:40e sdev:10\n"
                       "tfd:        7 events:        1 data:                8  pos:0 ino:40e sdev:10\n"));
  REQUIRE(epoll.entries.size() == 3);
  CHECK(epoll.entries[0].events == 0x80000019u);
  CHECK(epoll.entries[0].inode == 0x2b6995);
  CHECK(epoll.entries[1].data == ~std::uint64_t{0});
  CHECK(epoll.entries[0].same_fd_before == 0);
  CHECK(epoll.entries[2].same_fd_before == 1);
  CHECK(parse_epoll("pos:\t0\n").ok());
  CHECK(!parse_epoll("tfd: x\n").ok());
}

TEST_CASE("signalfd and timerfd as the kernel shows them") {
  CHECK(must(parse_signalfd("sigmask:\t0000000000000201\n")).mask == 0x201);
  const TimerfdState timer = must(
      parse_timerfd("clockid: 7\nticks: 26\nsettime flags: 03\nit_value: (0, 53370)\nit_interval: (2, 1000000)\n"));
  CHECK(timer.clock == 7);
  CHECK(timer.ticks == 26);
  CHECK(timer.flags == (TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET));
  CHECK(timer.interval_ns == 2'001'000'000);
  CHECK(!parse_timerfd("clockid: 7\nticks: 26\n").ok());
}

TEST_CASE("inotify: numbers are hexadecimal, and come in any order") {
  const InotifyState inotify = must(parse_inotify(
      "pos:\t0\ninotify wd:1a ino:2e3 sdev:fe00001 mask:fff ignored_mask:0 fhandle-bytes:8 fhandle-type:1 f_handle:e3\n"
      "inotify wd:1 ino:3f7e8 sdev:fe00001 mask:80000002 ignored_mask:0 \n"));
  REQUIRE(inotify.watches.size() == 2);
  CHECK(inotify.watches[0].descriptor == 1);
  CHECK(inotify.watches[0].mask == 0x80000002u);
  CHECK(inotify.watches[1].descriptor == 26);
  CHECK(inotify.watches[1].inode == 0x2e3);
  CHECK(inotify.watches[1].device == makedev(0xfe, 1));
  CHECK(!parse_inotify("inotify wd:1\n").ok());
}

TEST_CASE("an inotify is made anew when it watches other things, and emptied when events came") {
  InotifyState wanted;
  wanted.watches.push_back({1, 2, 3, 4, 0, "/workspace"});
  InotifyState live = wanted;
  CHECK(correction_of(live, wanted) == Correction::kNone);
  live.queued_bytes = 32;
  CHECK(correction_of(live, wanted) == Correction::kInPlace);
  live.watches[0].mask = 3;
  CHECK(correction_of(live, wanted) == Correction::kAnew);
  CHECK(watches_any(wanted, {0}));
  CHECK_FALSE(watches_any(wanted, {1}));
  CHECK_FALSE(watches_any(EventfdState{}, {0}));
}

TEST_CASE("a correction is made in place where the kernel lets us") {
  const auto of = [](ObjectState live, ObjectState wanted) { return correction_of(live, wanted); };
  CHECK(of(EventfdState{3, false}, EventfdState{3, false}) == Correction::kNone);
  CHECK(of(EventfdState{3, false}, EventfdState{2, false}) == Correction::kInPlace);
  CHECK(of(EventfdState{3, true}, EventfdState{3, true}) == Correction::kNone);
  CHECK(of(EventfdState{3, true}, EventfdState{4, true}) == Correction::kAnew);
  CHECK(of(EventfdState{3, true}, EventfdState{3, false}) == Correction::kAnew);
  CHECK(of(SignalfdState{1}, SignalfdState{2}) == Correction::kInPlace);
  CHECK(of(TimerfdState{}, TimerfdState{}) == Correction::kNone);
  CHECK(of(TimerfdState{1, 0, 500, 0, 0}, TimerfdState{1, 0, 600, 0, 0}) == Correction::kInPlace);
  CHECK(of(TimerfdState{1, 0, 0, 0, 0}, TimerfdState{0, 0, 0, 0, 0}) == Correction::kAnew);
  CHECK(of(EventfdState{}, SignalfdState{}) == Correction::kAnew);
  CHECK(of(std::monostate{}, std::monostate{}) == Correction::kNone);
}

}  // namespace deltabox::test
