#include "renames/gate.h"

#include <sys/wait.h>
#include <unistd.h>

#include "expect.h"
#include "renames/call.h"

namespace deltabox::test {

using renames::Gate;

namespace {

constexpr std::uint64_t kFarMs = 60'000;
constexpr useconds_t kMoment = 20'000;

// Runs the body in a process beside this one, as the renames process is one.
template <typename Body>
pid_t beside(Body body) {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    body();
    ::_exit(0);
  }
  return child;
}

void wait_for_end(pid_t child) {
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
}

}  // namespace

TEST_CASE("a gate without calls in flight closes at once, and no call enters until it opens") {
  Gate gate = must(Gate::create());
  REQUIRE(gate.close(0));
  const pid_t process = beside([&] { gate.enter(0); });
  ::usleep(kMoment);
  CHECK(!gate.is_used(0));
  gate.open();
  wait_for_end(process);
  CHECK(gate.is_used(0));
}

TEST_CASE("closing waits for every call in flight") {
  Gate gate = must(Gate::create());
  gate.enter(0);
  gate.enter(3);
  const pid_t process = beside([&] {
    ::usleep(kMoment);
    gate.leave(3);
    ::usleep(kMoment);
    gate.leave(0);
  });
  CHECK(gate.close(kFarMs));
  CHECK(!gate.is_used(0));
  CHECK(!gate.is_used(3));
  wait_for_end(process);
}

TEST_CASE("a call that stays in flight keeps the gate open") {
  Gate gate = must(Gate::create());
  gate.enter(1);
  CHECK(!gate.close(1));
  const pid_t process = beside([&] { gate.enter(0); });
  wait_for_end(process);
  CHECK(gate.is_used(0));
}

TEST_CASE("a call that was handed on keeps its id until it leaves") {
  Gate gate = must(Gate::create());
  gate.enter(0);
  gate.set_id(0, 77);
  gate.move(0, 2);
  CHECK(!gate.is_used(0));
  CHECK(gate.is_used(2));
  CHECK(gate.id(2) == 77);
  CHECK(!gate.close(1));
  gate.leave(2);
  gate.leave(2);
  CHECK(gate.close(1));
}

TEST_CASE("calls of a process that died are named once and no longer count") {
  Gate gate = must(Gate::create());
  wait_for_end(beside([&] {
    gate.enter(0);
    gate.set_id(0, 5);
    gate.enter(4);
    gate.set_id(4, 6);
  }));
  CHECK(gate.abandoned() == std::vector<std::uint64_t>{5, 6});
  CHECK(gate.abandoned().empty());
  CHECK(gate.close(0));
}

TEST_CASE("a path is split where rename(2) splits it") {
  const auto parts = [](const std::string& path) {
    const renames::SplitPath split = must(renames::split(path));
    return split.parent + " | " + split.name;
  };
  CHECK(parts("a") == ". | a");
  CHECK(parts("a/") == ". | a/");
  CHECK(parts("a///") == ". | a/");
  CHECK(parts("/a") == "/ | a");
  CHECK(parts("a/b") == "a/ | b");
  CHECK(parts("../a//b//") == "../a// | b/");
  CHECK(parts("/a/..b") == "/a/ | ..b");
  for (const char* path : {"", "/", "//", ".", "..", "a/.", "a/..", "a/../", "/."}) {
    CAPTURE(path);
    CHECK(must_fail(renames::split(path)).os_errno == EBUSY);
  }
}

}  // namespace deltabox::test
