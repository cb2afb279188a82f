// Fills a directory with the tree of another one: sub-directories made anew, everything else by hard links.
#pragma once

#include <sys/types.h>

#include <map>
#include <memory>
#include <string>

#include "base/result.h"

namespace deltabox::renames {

// What a mirror got, to tell later which names of the original are still the same.
struct MirroredDirectory {
  struct Entry {
    ino_t original_inode = 0;
    ino_t inode = 0;                    // of the mirror's name: overlayfs shows another number for a file's second name
    bool linked_to_other_name = false;  // the original is not the mirror's file, but equal to it
    std::unique_ptr<MirroredDirectory> directory;
  };
  std::map<std::string, Entry> entries;
};

// Fails with EXDEV's kin (EACCES, EPERM, …) where the caller lacks a right that the sweep will need as well.
Result<MirroredDirectory> mirror_tree(int from_fd, int to_fd);
// Removes an unfinished mirror's contents.
void discard_tree(int dir_fd);

}  // namespace deltabox::renames
