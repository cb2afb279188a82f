#include "deltacr/watched_paths.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <deque>
#include <optional>
#include <utility>

#include "sys/files.h"

namespace deltabox {

namespace {

constexpr int kMaxLooks = 50'000;  // some 3 µs each, inside the pause

using PathByInode = std::map<std::uint64_t, std::string>;

std::string join(const std::string& directory, const std::string& name) {
  return directory.empty() ? name : directory + "/" + name;
}

struct Seen {
  std::uint64_t inode = 0;
  bool directory = false;
};
std::optional<Seen> look_at(int directory, const std::string& name) {
  struct stat info {};
  if (::fstatat(directory, name.c_str(), &info, AT_SYMLINK_NOFOLLOW | (name.empty() ? AT_EMPTY_PATH : 0)) != 0)
    return std::nullopt;
  return Seen{info.st_ino, S_ISDIR(info.st_mode)};
}

// Level by level: what is watched lies near the root, but for what package managers and git keep, which comes last.
void walk(int root, std::set<std::uint64_t> wanted, PathByInode& found) {
  std::deque<std::string> waiting{""};
  std::deque<std::string> last;
  int looks = 0;
  while (!wanted.empty() && looks < kMaxLooks && (!waiting.empty() || !last.empty())) {
    if (waiting.empty()) std::swap(waiting, last);
    const std::string below = std::move(waiting.front());
    waiting.pop_front();
    const Result<UniqueFd> directory = sys::open_beneath(root, below.empty() ? "." : below, O_RDONLY | O_DIRECTORY);
    if (!directory.ok()) continue;
    const Result<std::vector<std::string>> names = sys::list_dir(directory.value().get());
    if (!names.ok()) continue;
    for (const std::string& name : names.value()) {
      ++looks;
      const std::optional<Seen> seen = look_at(directory.value().get(), name);
      if (!seen) continue;
      std::string path = join(below, name);
      if (wanted.erase(seen->inode) != 0) found[seen->inode] = path;
      if (!seen->directory) continue;
      (name == "node_modules" || name == ".git" ? last : waiting).push_back(std::move(path));
    }
  }
}

}  // namespace

void WatchedPaths::begin() {
  known_ = std::exchange(met_, {});
  missed_ = std::exchange(missing_, {});
  seen_.clear();
}

void WatchedPaths::find(int volume, int root, const std::string& volume_path, std::vector<InotifyWatch>& watches) {
  const bool any =
      std::any_of(watches.begin(), watches.end(), [&](const InotifyWatch& watch) { return watch.volume == volume; });
  if (!any) return;
  const auto [entry, is_first] = seen_.try_emplace(volume);
  PathByInode& seen = entry->second;
  if (is_first) {
    std::set<std::string>& known = known_[volume];
    known.insert("");
    for (const std::string& path : known) {
      if (const std::optional<Seen> there = look_at(root, path)) seen.emplace(there->inode, path);
    }
  }
  std::set<std::uint64_t> wanted;
  for (const InotifyWatch& watch : watches) {
    if (watch.volume != volume || seen.contains(watch.inode)) continue;
    if (missed_.contains({watch.device, watch.inode})) continue;
    wanted.insert(watch.inode);
  }
  if (!wanted.empty()) walk(root, std::move(wanted), seen);
  for (InotifyWatch& watch : watches) {
    if (watch.volume != volume) continue;
    const auto at = seen.find(watch.inode);
    if (at == seen.end()) {
      missing_.insert({watch.device, watch.inode});
      continue;
    }
    watch.path = at->second.empty() ? volume_path : volume_path + "/" + at->second;
    met_[volume].insert(at->second);
  }
}

}  // namespace deltabox
