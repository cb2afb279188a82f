// Monotonic time for durations. Every duration of the engine's replies comes from here.
#pragma once

#include <cstdint>
#include <ctime>

namespace deltabox {

inline std::uint64_t monotonic_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000ull + static_cast<std::uint64_t>(now.tv_nsec);
}

inline std::uint64_t unix_time_ns() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000ull + static_cast<std::uint64_t>(now.tv_nsec);
}

// Where a counter of names begins that must not repeat those of earlier engines, whose images this one may read.
inline std::uint64_t first_name() { return unix_time_ns(); }

inline std::uint64_t unix_time_ms() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1000ull + static_cast<std::uint64_t>(now.tv_nsec) / 1'000'000ull;
}

// Measures laps: each lap_us() is the time since the previous one.
class Stopwatch {
 public:
  Stopwatch() : lap_ns_(monotonic_ns()) {}
  double lap_us() {
    const std::uint64_t now_ns = monotonic_ns();
    const double us = static_cast<double>(now_ns - lap_ns_) / 1000.0;
    lap_ns_ = now_ns;
    return us;
  }

 private:
  std::uint64_t lap_ns_;
};

}  // namespace deltabox
