#include "deltafs/merge.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <set>
#include <string>

#include "deltafs/stack_lookup.h"
#include "sys/file_copy.h"
#include "sys/files.h"

namespace deltabox {

namespace {

constexpr int kMaxTreeDepth = 2048;  // PATH_MAX / 2

// Directories of one path, topmost layer first.
using Parts = std::vector<UniqueFd>;

Result<void> merge_dirs(const Parts& parts, const Parts& below, int into, int depth);

// The directories of this name below the run, by overlayfs' rules.
Result<Parts> dirs_below(const Parts& below, const std::string& name) {
  Parts dirs;
  for (const UniqueFd& part : below) {
    struct stat info {};
    if (::fstatat(part.get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) {
      if (errno == ENOENT) continue;
      return os_error("fstatat", name);
    }
    if (!S_ISDIR(info.st_mode)) return dirs;
    UniqueFd dir = TRY(sys::open_at(part.get(), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    const bool opaque = is_opaque(dir.get());
    dirs.push_back(std::move(dir));
    if (opaque) return dirs;
  }
  return dirs;
}

// What one name means in the merged directories.
struct Meaning {
  std::size_t part = 0;  // the topmost that has it
  struct stat info {};
  Parts directories;         // of a directory
  bool hides_below = false;  // of a directory: something between its parts, or in one of them, ends the merge
};

Result<Meaning> meaning_of(const Parts& parts, const std::string& name) {
  Meaning meaning;
  bool found = false;
  for (std::size_t index = 0; index < parts.size(); ++index) {
    struct stat info {};
    if (::fstatat(parts[index].get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) {
      if (errno == ENOENT) continue;
      return os_error("fstatat", name);
    }
    if (!found) {
      found = true;
      meaning.part = index;
      meaning.info = info;
      if (!S_ISDIR(info.st_mode)) return meaning;
    } else if (!S_ISDIR(info.st_mode)) {
      meaning.hides_below = true;
      return meaning;
    }
    UniqueFd dir = TRY(sys::open_at(parts[index].get(), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    const bool opaque = is_opaque(dir.get());
    meaning.directories.push_back(std::move(dir));
    if (opaque) {
      meaning.hides_below = true;
      return meaning;
    }
  }
  if (!found) return make_error(Code::kInternal, "a name vanished from a sealed layer: " + name);
  return meaning;
}

Result<void> merge_name(const Parts& parts, const Parts& below, const std::string& name, int into, int depth) {
  const Meaning meaning = TRY(meaning_of(parts, name));
  if (!S_ISDIR(meaning.info.st_mode)) {
    // A whiteout stays as long as there is a directory below in which it may hide something. Elsewhere it must go: a
    // directory of one layer alone is listed as it is, whiteouts included (ovl_dir_is_real()).
    if (is_whiteout(meaning.info) && below.empty()) return {};
    if (::linkat(parts[meaning.part].get(), name.c_str(), into, name.c_str(), 0) != 0) return os_error("linkat", name);
    return {};
  }
  TRY(sys::make_dir_at(into, name, 0700));
  UniqueFd made = TRY(sys::open_at(into, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  const Parts under = meaning.hides_below ? Parts() : TRY(dirs_below(below, name));
  TRY(merge_dirs(meaning.directories, under, made.get(), depth + 1));
  if (meaning.hides_below && ::fsetxattr(made.get(), "user.overlay.opaque", "y", 1, 0) != 0) {
    return os_error("fsetxattr", "user.overlay.opaque");
  }
  // Times last: the names below changed them.
  return sys::copy_file_attributes(meaning.directories.front().get(), made.get());
}

Result<void> merge_dirs(const Parts& parts, const Parts& below, int into, int depth) {
  if (depth > kMaxTreeDepth) return make_error(Code::kTooLarge, "a layer is nested deeper than 2,048 directories");
  std::set<std::string> names;
  for (const UniqueFd& part : parts) {
    for (std::string& name : TRY(sys::list_dir(part.get()))) names.insert(std::move(name));
  }
  for (const std::string& name : names) TRY(merge_name(parts, below, name, into, depth));
  return {};
}

}  // namespace

std::optional<LayerRun> choose_run(const LayerStack& stack) {
  for (std::size_t end = stack.size(); end > 1;) {
    std::size_t first = end - 1;
    while (first > 1 && stack[first - 1]->level == stack[end - 1]->level) --first;
    if (end - first >= kMergeFanOut) return LayerRun{first, end - first};
    end = first;
  }
  return std::nullopt;
}

Result<void> merge_layers(const LayerStack& layers, const LayerStack& below, int into) {
  const auto open_all = [](const LayerStack& stack) -> Result<Parts> {
    Parts parts;
    for (auto layer = stack.rbegin(); layer != stack.rend(); ++layer) {
      parts.push_back(TRY(sys::open_at(TRY((*layer)->open())->get(), ".", O_RDONLY | O_DIRECTORY)));
    }
    return parts;
  };
  const Parts parts = TRY(open_all(layers));
  TRY(merge_dirs(parts, TRY(open_all(below)), into, 0));
  return sys::copy_file_attributes(parts.front().get(), into);
}

std::shared_ptr<const LayerStack> with_merged(const std::shared_ptr<const LayerStack>& stack, const LayerStack& run,
                                              const std::shared_ptr<const Layer>& merged) {
  const auto found = std::search(stack->begin(), stack->end(), run.begin(), run.end());
  if (found == stack->end()) return stack;
  auto replaced = std::make_shared<LayerStack>(stack->begin(), found);
  replaced->push_back(merged);
  replaced->insert(replaced->end(), found + static_cast<std::ptrdiff_t>(run.size()), stack->end());
  return replaced;
}

}  // namespace deltabox
