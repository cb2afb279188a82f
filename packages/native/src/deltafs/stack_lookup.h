// What a path means in a stack of sealed layers, found without a mount: by overlayfs' own rules (whiteouts, opaque
// directories, a directory merges with the directories of its name below). Looking through a staged overlay instead
// would fill its dentry cache with answers that later changes beneath it make wrong.
#pragma once

#include <sys/stat.h>

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "deltafs/layer.h"

namespace deltabox {

struct StackEntry {
  std::shared_ptr<const Layer> layer;  // the topmost that has it
  UniqueFd fd;                         // O_PATH
  struct stat info {};
};

// `path` is relative to the volume's root, without "." and "..". nullopt: no such entry.
Result<std::optional<StackEntry>> lookup_in_stack(const LayerStack& stack, const std::string& path);

// "a/b/c" → {"a", "b", "c"}.
std::vector<std::string> path_components(const std::string& path);

bool is_whiteout(const struct stat& info);
// overlayfs marks a directory that hides what lies below it.
bool is_opaque(int dir_fd);

}  // namespace deltabox
