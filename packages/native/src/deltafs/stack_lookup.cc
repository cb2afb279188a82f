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

bool is_whiteout(const struct stat& info) { return S_ISCHR(info.st_mode) && info.st_rdev == makedev(0, 0); }

bool is_opaque(int dir_fd) {
  char value = 0;
  return ::fgetxattr(dir_fd, "user.overlay.opaque", &value, 1) == 1 && value == 'y';
}

namespace {

// The directories that a merged directory consists of, topmost first.
struct Merged {
  std::vector<std::pair<std::shared_ptr<const Layer>, LayerDir>> dirs;
};

}  // namespace

Result<std::optional<StackEntry>> lookup_in_stack(const LayerStack& stack, const std::string& path) {
  Merged merged;
  for (auto layer = stack.rbegin(); layer != stack.rend(); ++layer) {
    merged.dirs.emplace_back(*layer, TRY((*layer)->open()));
  }
  std::optional<StackEntry> found;
  for (const std::string& name : path_components(path)) {
    if (found && !S_ISDIR(found->info.st_mode)) return std::optional<StackEntry>();
    found.reset();
    Merged next;
    for (auto& [layer, dir] : merged.dirs) {
      struct stat info {};
      if (::fstatat(dir->get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) {
        if (errno == ENOENT) continue;
        return os_error("fstatat", name);
      }
      if (is_whiteout(info)) break;
      const bool is_dir = S_ISDIR(info.st_mode);
      if (found && !is_dir) break;  // hidden by the directory above it
      const int flags = is_dir ? O_RDONLY | O_DIRECTORY | O_NOFOLLOW : O_PATH | O_NOFOLLOW;
      UniqueFd fd = TRY(sys::open_at(dir->get(), name, flags));
      if (!found) found = StackEntry{layer, TRY(sys::duplicate(fd.get())), info};
      if (!is_dir) break;
      const bool opaque = is_opaque(fd.get());
      next.dirs.emplace_back(layer, std::make_shared<const UniqueFd>(std::move(fd)));
      if (opaque) break;
    }
    if (!found) return std::optional<StackEntry>();
    merged = std::move(next);
  }
  return found;
}

}  // namespace deltabox
