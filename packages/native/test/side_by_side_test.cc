#include "base/side_by_side.h"

#include <atomic>
#include <vector>

#include "expect.h"

namespace deltabox::test {

namespace {

constexpr std::uint64_t kWorthManyThreads = 1u << 30;

TEST_CASE("everything is done once, however many threads share it") {
  for (const std::uint64_t bytes : {std::uint64_t{0}, kWorthManyThreads}) {
    for (const std::size_t count : {0u, 1u, 6u, 7u, 8u, 1000u}) {
      std::vector<std::atomic<int>> done(count);
      const Result<void> result = side_by_side(count, 7, bytes, [&](std::size_t begin, std::size_t end) {
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
      side_by_side(100'000, 1, kWorthManyThreads, [&](std::size_t begin, std::size_t) -> Result<void> {
        if (begin == 3) return make_error(Code::kDamaged, "the fourth");
        return {};
      });
  REQUIRE_FALSE(result.ok());
  CHECK(result.error().code == Code::kDamaged);
}

}  // namespace

}  // namespace deltabox::test
