// inotify(7). A watch is on an inode of one overlay: when its volume switches, the instance is made anew, with the same
// watch descriptors on the inodes that are at the same paths then. Hence a watch is captured as a path.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace deltabox {

struct InotifyWatch {
  int descriptor = 0;  // as inotify_add_watch(2) returned it
  std::uint32_t mask = 0;
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  int volume = -1;   // index of the volume that it lies on
  std::string path;  // inside; empty: not found
  bool operator==(const InotifyWatch&) const = default;
};

struct InotifyState {
  std::vector<InotifyWatch> watches;  // by descriptor
  std::uint64_t queued_bytes = 0;     // events that nobody has read; they can't be read without being taken
  bool operator==(const InotifyState&) const = default;
};

// Without volumes and paths.
Result<InotifyState> parse_inotify(const std::string& fdinfo);
Result<std::uint64_t> queued_bytes(int duplicate);

}  // namespace deltabox
