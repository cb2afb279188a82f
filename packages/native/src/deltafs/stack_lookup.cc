#include "deltafs/stack_lookup.h"

#include <fcntl.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <cerrno>

#include "sys/files.h"

namespace deltabox {

std::vector<std::string> path_components(const std::string& path) {
  std::vector<std::string> components;
  std::size_t start = 0;
  while (start < path.size()) {
    const std::size_t slash = std::min(path.find('/', start), path.size());
    if (slash > start) components.push_back(path.substr(start, slash - start));
    start = slash + 1;
  }
  return components;
}

std::string parent_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? std::string() : path.substr(0, slash);
}

std::string name_of(const std::string& path) { return path.substr(path.rfind('/') + 1); }

bool is_whiteout(const struct stat& info) { return S_ISCHR(info.st_mode) && info.st_rdev == makedev(0, 0); }

bool is_opaque(int dir_fd) {
  char value = 0;
  return ::fgetxattr(dir_fd, "user.overlay.opaque", &value, 1) == 1 && value == 'y';
}

namespace {
constexpr std::size_t kMostKnown = 16;  // each has a descriptor for every layer that has the directory
}

Result<std::shared_ptr<const StackLookup::Merged>> StackLookup::directory(const std::string& path) {
  const auto known = known_.find(path);
  if (known != known_.end()) return known->second;
  auto merged = std::make_shared<Merged>();
  if (path.empty()) {
    for (auto layer = stack_->rbegin(); layer != stack_->rend(); ++layer) {
      merged->emplace_back(*layer, TRY((*layer)->open()));
    }
  } else {
    const std::shared_ptr<const Merged> above = TRY(directory(parent_of(path)));
    const std::optional<StackEntry> entry =
        above ? TRY(step(*above, name_of(path), *merged)) : std::optional<StackEntry>();
    if (!entry || !S_ISDIR(entry->info.st_mode)) merged.reset();
  }
  if (known_.size() >= kMostKnown) known_.clear();
  known_[path] = merged;
  return std::shared_ptr<const Merged>(std::move(merged));
}

// `below`: what the entry consists of, if it is a directory.
Result<std::optional<StackEntry>> StackLookup::step(const Merged& merged, const std::string& name, Merged& below) {
  std::optional<StackEntry> found;
  for (const auto& [layer, dir] : merged) {
    struct stat info {};
    if (::fstatat(dir->get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) {
      if (errno == ENOENT) continue;
      return os_error("fstatat", name);
    }
    if (is_whiteout(info)) break;
    const bool is_dir = S_ISDIR(info.st_mode);
    if (found && !is_dir) break;  // hidden by the directory above it
    const int flags = is_dir ? O_RDONLY | O_DIRECTORY | O_NOFOLLOW : O_PATH | O_NOFOLLOW;
    auto fd = std::make_shared<const UniqueFd>(TRY(sys::open_at(dir->get(), name, flags)));
    if (!found) found = StackEntry{layer, fd, info};
    if (!is_dir) break;
    const bool opaque = is_opaque(fd->get());
    below.emplace_back(layer, std::move(fd));
    if (opaque) break;
  }
  return found;
}

Result<std::optional<StackEntry>> StackLookup::find(const std::string& path) {
  const auto known = known_.find(path);
  if (known != known_.end() && known->second) {
    const auto& [layer, dir] = known->second->front();
    return std::optional<StackEntry>({layer, dir, TRY(sys::stat_fd(dir->get()))});
  }
  const std::shared_ptr<const Merged> above = TRY(directory(parent_of(path)));
  if (!above) return std::optional<StackEntry>();
  Merged below;
  return step(*above, name_of(path), below);
}

Result<std::optional<StackEntry>> lookup_in_stack(const LayerStack& stack, const std::string& path) {
  return StackLookup({std::shared_ptr<const LayerStack>(), &stack}).find(path);
}

}  // namespace deltabox
