// Seeded random numbers. The seed is drawn once per run and printed, and DELTABOX_TEST_SEED sets it.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>

namespace deltabox::test {

inline std::uint64_t seed() {
  static const std::uint64_t value = [] {
    const char* given = std::getenv("DELTABOX_TEST_SEED");
    const std::uint64_t drawn = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
    std::printf("DELTABOX_TEST_SEED=%llu\n", static_cast<unsigned long long>(drawn));
    std::fflush(stdout);
    return drawn;
  }();
  return value;
}

class Random {
 public:
  // Each test names a stream of its own, so that one test's draws don't shift another's.
  explicit Random(std::uint64_t stream) : engine_(seed() * 1'000'003 + stream) {}
  std::uint64_t below(std::uint64_t bound) { return engine_() % bound; }
  bool one_in(std::uint64_t count) { return below(count) == 0; }

 private:
  std::mt19937_64 engine_;
};

}  // namespace deltabox::test
