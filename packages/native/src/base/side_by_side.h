// Work on memory, shared among the processors of the machine.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <future>
#include <thread>
#include <utility>
#include <vector>

#include "base/result.h"

namespace deltabox {

// Calls `work(begin, end)` for all of 0 … count, at most `chunk` at once, on as many threads as `bytes` are worth, the
// caller's among them. Returns one of the errors, after which the parts that nobody had begun are left out.
template <typename Work>
Result<void> side_by_side(std::size_t count, std::size_t chunk, std::uint64_t bytes, const Work& work) {
  constexpr std::uint64_t kBytesWorthAThread = 4u << 20;
  constexpr std::uint64_t kMostThreads = 8;
  std::atomic<std::size_t> next = 0;
  const auto take = [&]() -> Result<void> {
    for (;;) {
      const std::size_t begin = next.fetch_add(chunk);
      if (begin >= count) return {};
      Result<void> done = work(begin, std::min(begin + chunk, count));
      if (done.ok()) continue;
      next = count;
      return done;
    }
  };
  const std::uint64_t processors = std::thread::hardware_concurrency();
  std::vector<std::future<Result<void>>> others;
  for (std::uint64_t left = std::min({bytes / kBytesWorthAThread, processors, kMostThreads}); left > 1; --left) {
    // Deferred, and so done by this one: where no more threads are to be had.
    others.push_back(std::async(std::launch::async | std::launch::deferred, take));
  }
  Result<void> result = take();
  for (std::future<Result<void>>& other : others) {
    Result<void> done = other.get();
    if (!done.ok()) result = std::move(done);
  }
  return result;
}

}  // namespace deltabox
