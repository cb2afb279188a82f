// Whose rights a task acts with. Plain data.
#pragma once

#include <cstdint>
#include <vector>

namespace deltabox {

// Sets of capabilities as masks of 1 << CAP_….
struct Capabilities {
  std::uint64_t effective = 0;
  std::uint64_t permitted = 0;
  std::uint64_t inheritable = 0;
  bool operator==(const Capabilities&) const = default;
};

// Of a process, read from its main thread. Capabilities are each thread's own.
struct Credentials {
  std::uint32_t uids[3] = {};  // real, effective, saved
  std::uint32_t gids[3] = {};
  std::vector<std::uint32_t> groups;  // supplementary, in ascending order
  std::uint64_t bounding = 0;
  std::uint64_t ambient = 0;
  std::uint32_t securebits = 0;  // SECBIT_*, PR_SET_KEEPCAPS included
  bool operator==(const Credentials&) const = default;
};

}  // namespace deltabox
