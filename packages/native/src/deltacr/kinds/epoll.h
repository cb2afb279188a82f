// epoll(7).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace deltabox {

// What is watched: an open file description, under the descriptor number by which it was registered. The number may
// have been closed since, or lead to something else.
struct EpollEntry {
  int fd = -1;
  std::uint32_t events = 0;
  std::uint64_t data = 0;
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  int same_fd_before = 0;         // how many entries of this number come before it in fdinfo
  std::int64_t description = -1;  // index into TreeImage::descriptions; -1: no descriptor of a task leads to it
  bool operator==(const EpollEntry&) const = default;
};

struct EpollState {
  std::vector<EpollEntry> entries;
  bool operator==(const EpollState&) const = default;
};

// Without the descriptions.
Result<EpollState> parse_epoll(const std::string& fdinfo);

}  // namespace deltabox
