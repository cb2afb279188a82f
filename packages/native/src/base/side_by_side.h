// Work that the processors of the machine share.
#pragma once

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <future>
#include <thread>
#include <utility>
#include <vector>

#include "base/result.h"

namespace deltabox {

constexpr std::uint64_t kMostThreads = 8;

// How many threads it takes for its price to be worth it, where the work is to touch so much memory.
constexpr std::uint64_t threads_worth(std::uint64_t bytes) {
  constexpr std::uint64_t kBytesWorthAThread = 4u << 20;
  return bytes / kBytesWorthAThread;
}

// Calls `work(begin, end)` for all of 0 … count, at most `chunk` at once, on at most so many threads, the caller's
// among them. Returns one of the errors, after which the parts that nobody had begun are left out.
template <typename Work>
Result<void> side_by_side(std::size_t count, std::size_t chunk, std::uint64_t threads, const Work& work) {
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
  const std::thread::id caller = std::this_thread::get_id();
  const auto take_elsewhere = [&]() -> Result<void> {
    // The caller enters other mount namespaces, which it can't while another thread shares its root and working
    // directory (setns(2)), be it one that is just ending.
    if (std::this_thread::get_id() != caller && ::unshare(CLONE_FS) != 0) return os_error("unshare", "CLONE_FS");
    return take();
  };
  for (std::uint64_t left = std::min({threads, processors, kMostThreads}); left > 1; --left) {
    // Deferred, and so done by this one: where no more threads are to be had.
    others.push_back(std::async(std::launch::async | std::launch::deferred, take_elsewhere));
  }
  Result<void> result = take();
  for (std::future<Result<void>>& other : others) {
    Result<void> done = other.get();
    if (!done.ok()) result = std::move(done);
  }
  return result;
}

}  // namespace deltabox
