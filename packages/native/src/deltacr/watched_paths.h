// Finds the paths of inodes that programs watch: inotify tells numbers only. Paths found once are tried first, so that
// a directory is walked through only for what is watched since the last look.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "deltacr/kinds/inotify.h"

namespace deltabox {

class WatchedPaths {
 public:
  // Starts a capture.
  void begin();
  // `root`: the volume's root directory, `volume_path`: where it is mounted inside. Fills in the paths of those of the
  // watches that lie on it.
  void find(int volume, int root, const std::string& volume_path, std::vector<InotifyWatch>& watches);

 private:
  using PathByInode = std::map<std::uint64_t, std::string>;
  using InodeKey = std::pair<std::uint64_t, std::uint64_t>;  // device and inode

  std::map<int, std::set<std::string>> known_;  // by volume, relative to it; of the last capture
  std::set<InodeKey> missed_;                   // what the last capture did not find: nothing to look for again
  // of this capture
  std::map<int, PathByInode> seen_;  // where the known ones lead
  std::map<int, std::set<std::string>> met_;
  std::set<InodeKey> missing_;
};

}  // namespace deltabox
