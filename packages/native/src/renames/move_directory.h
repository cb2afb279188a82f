// Renames a directory in steps, where overlayfs can't do it in one (it lies in a lower layer).
//
//   mirror     a hidden directory beside the destination gets the same tree: directories made anew, everything else by
//              hard links. The old tree stays whole, so a failure up to here costs only the mirror.
//   publish    the mirror is renamed to the destination: it appears whole, in one step.
//   sweep      name by name, the old tree takes the place of its links, so that open files go along; at last its top is
//              removed. A name that was changed or made since the mirror was filled moves over as well, so nothing that
//              others write meanwhile is lost.
//
// Each step is an ordinary system call with the caller's rights and can do nothing else than the caller could.
#pragma once

#include <string>

#include "base/result.h"

namespace deltabox::renames {

struct DirectoryMove {
  int old_parent = -1;
  std::string old_name;
  int new_parent = -1;
  std::string new_name;
  unsigned flags = 0;  // of renameat2(2)
};

// True when EXDEV from rename(2) can only mean that overlayfs refused: one mount, and no exchange.
bool may_move(const DirectoryMove& move);

// The error's os_errno is one that rename(2) may return; EXDEV where the steps can't be taken, as without them.
Result<void> move_directory(const DirectoryMove& move);

}  // namespace deltabox::renames
