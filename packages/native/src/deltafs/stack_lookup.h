// What a path means in a stack of sealed layers, found without a mount: by overlayfs' own rules (whiteouts, opaque
// directories, a directory merges with the directories of its name below). Looking through a staged overlay instead
// would fill its dentry cache with answers that later changes beneath it make wrong.
#pragma once

#include <sys/stat.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "deltafs/layer.h"

namespace deltabox {

struct StackEntry {
  std::shared_ptr<const Layer> layer;  // the topmost that has it
  LayerDir fd;                         // the directory, or O_PATH
  struct stat info {};
};

// Looks paths up in one stack, and walks the directories above them once each. Nothing of the stack changes meanwhile.
class StackLookup {
 public:
  explicit StackLookup(std::shared_ptr<const LayerStack> stack) : stack_(std::move(stack)) {}
  // `path` is relative to the volume's root, without "." and "..". nullopt: no such entry.
  Result<std::optional<StackEntry>> find(const std::string& path);

 private:
  // The directories that a merged directory consists of, topmost first; null: there is no such directory.
  using Merged = std::vector<std::pair<std::shared_ptr<const Layer>, LayerDir>>;
  Result<std::shared_ptr<const Merged>> directory(const std::string& path);
  static Result<std::optional<StackEntry>> step(const Merged& merged, const std::string& name, Merged& below);

  std::shared_ptr<const LayerStack> stack_;
  std::map<std::string, std::shared_ptr<const Merged>> known_;
};

// One of them.
Result<std::optional<StackEntry>> lookup_in_stack(const LayerStack& stack, const std::string& path);

// "a/b/c" → {"a", "b", "c"}, "a/b" and "c".
std::vector<std::string> path_components(const std::string& path);
std::string parent_of(const std::string& path);
std::string name_of(const std::string& path);

bool is_whiteout(const struct stat& info);
// overlayfs marks a directory that hides what lies below it.
bool is_opaque(int dir_fd);

}  // namespace deltabox
