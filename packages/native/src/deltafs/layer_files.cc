#include "deltafs/layer_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <cerrno>

#include "sys/files.h"

namespace deltabox {

namespace {

constexpr int kMaxTreeDepth = 2048;  // PATH_MAX / 2
constexpr std::size_t kMostOpenDirs = 64;

}  // namespace

Result<SeenFile> look_at(int fd) {
  const struct statx info = TRY(sys::statx_at(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME));
  const auto ns = [](const statx_timestamp& time) {
    return static_cast<std::int64_t>(time.tv_sec) * 1'000'000'000 + static_cast<std::int64_t>(time.tv_nsec);
  };
  const FileVersion version{static_cast<std::int64_t>(info.stx_size), ns(info.stx_mtime), ns(info.stx_ctime)};
  return SeenFile{{info.stx_ino, ns(info.stx_btime)}, version, info.stx_nlink};
}

namespace {

using NamesByInode = std::multimap<std::uint64_t, std::string>;

Result<void> walk(int dir_fd, const std::string& prefix, int depth, NamesByInode& names) {
  if (depth > kMaxTreeDepth) return make_error(Code::kTooLarge, "a layer is nested deeper than 2,048 directories");
  for (const std::string& name : TRY(sys::list_dir(dir_fd))) {
    struct stat info {};
    if (::fstatat(dir_fd, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) return os_error("fstatat", name);
    if (S_ISREG(info.st_mode)) names.emplace(info.st_ino, prefix + name);
    if (!S_ISDIR(info.st_mode)) continue;
    UniqueFd child = TRY(sys::open_at(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    TRY(walk(child.get(), prefix + name + "/", depth + 1, names));
  }
  return {};
}

}  // namespace

Result<UniqueFd> open_file_of(int layer_dir, const std::string& path) {
  Result<UniqueFd> opened = sys::open_beneath(layer_dir, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  if (!opened.ok()) {
    const int reason = opened.error().os_errno;
    if (reason == ENOENT || reason == ENOTDIR || reason == ELOOP || reason == ENXIO) return UniqueFd();
    return opened.release_error();
  }
  const struct stat info = TRY(sys::stat_fd(opened.value().get()));
  return S_ISREG(info.st_mode) ? opened.release_value() : UniqueFd();
}

Result<std::vector<std::string>> LayerNames::of(int layer_dir, std::uint64_t inode) {
  if (!names_) {
    NamesByInode names;
    TRY(walk(layer_dir, "", 0, names));
    names_ = std::move(names);
  }
  std::vector<std::string> found;
  const auto [begin, end] = names_->equal_range(inode);
  for (auto name = begin; name != end; ++name) found.push_back(name->second);
  return found;
}

Result<std::vector<KeptFile>> identify_files(const Volume& volume, const std::vector<FileToKeep>& files) {
  const int layer_dir = volume.writable_dir()->get();
  std::vector<KeptFile> found;
  LayerNames names;
  for (const FileToKeep& file : files) {
    const UniqueFd opened = TRY(open_file_of(layer_dir, file.path));
    if (!opened.valid()) continue;
    const SeenFile seen = TRY(look_at(opened.get()));
    KeptFile kept{file.path, seen.inode, {file.path}};
    if (seen.links > 1) kept.names = TRY(names.of(layer_dir, seen.inode.number));
    found.push_back(std::move(kept));
  }
  return found;
}

Result<std::optional<StackFiles::Found>> StackFiles::find(const std::string& path) {
  const auto known = known_.find(path);
  if (known != known_.end()) return known->second;
  const std::optional<StackEntry> entry = TRY(lookup_.find(path));
  std::optional<Found> found;
  if (entry && S_ISREG(entry->info.st_mode)) found = Found{entry->layer, TRY(look_at(entry->fd->get())).inode};
  known_[path] = found;
  return found;
}

Result<int> OpenDirs::open(const std::string& path) {
  if (path.empty()) return layer_->get();
  const auto known = opened_.find(path);
  if (known != opened_.end()) return known->second.get();
  UniqueFd opened = TRY(sys::open_beneath(layer_->get(), path, O_RDONLY | O_DIRECTORY));
  if (opened_.size() >= kMostOpenDirs) opened_.clear();
  return (opened_[path] = std::move(opened)).get();
}

Result<bool> OpenDirs::hides_below(const std::string& path) {
  if (path.empty()) return false;
  const auto known = hides_.find(path);
  if (known != hides_.end()) return known->second;
  const bool hides = TRY(hides_below(parent_of(path))) || is_opaque(TRY(open(path)));
  hides_[path] = hides;
  return hides;
}

}  // namespace deltabox
