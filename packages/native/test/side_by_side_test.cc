#include "base/side_by_side.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <vector>

#include "expect.h"

namespace deltabox::test {

namespace {

constexpr std::uint64_t kManyRounds = 300;

TEST_CASE("everything is done once, however many threads share it") {
  for (const std::uint64_t threads : {std::uint64_t{0}, kMostThreads}) {
    for (const std::size_t count : {0u, 1u, 6u, 7u, 8u, 1000u}) {
      std::vector<std::atomic<int>> done(count);
      const Result<void> result = side_by_side(count, 7, threads, [&](std::size_t begin, std::size_t end) {
        for (std::size_t index = begin; index < end; ++index) ++done[index];
        return Result<void>();
      });
      CHECK(result.ok());
      for (const std::atomic<int>& times : done) CHECK(times == 1);
    }
  }
}

TEST_CASE("one part that fails is the error of all") {
  const Result<void> result =
      side_by_side(100'000, 1, kMostThreads, [&](std::size_t begin, std::size_t) -> Result<void> {
        if (begin == 3) return make_error(Code::kDamaged, "the fourth");
        return {};
      });
  REQUIRE_FALSE(result.ok());
  CHECK(result.error().code == Code::kDamaged);
}

TEST_CASE("afterwards the caller can enter a mount namespace at once") {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    if (::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) ::_exit(1);
    const int own = ::open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
    for (std::uint64_t round = 0; round < kManyRounds; ++round) {
      const Result<void> result =
          side_by_side(8, 1, kMostThreads, [](std::size_t, std::size_t) { return Result<void>(); });
      if (!result.ok()) ::_exit(2);
      if (::setns(own, CLONE_NEWNS) != 0) ::_exit(3);
    }
    ::_exit(0);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

}  // namespace

}  // namespace deltabox::test
