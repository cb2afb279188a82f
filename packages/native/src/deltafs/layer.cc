#include "deltafs/layer.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <utility>

#include "base/fault.h"
#include "sys/files.h"
#include "sys/processes.h"

namespace deltabox {

namespace {

// More than the stacks of the volumes that a checkpoint or rollback has to do with are deep, together.
constexpr std::size_t kMostKeptOpen = 128;

Result<void> make_dir_unless_there(int dir_fd, const std::string& path, mode_t mode) {
  Result<void> made = sys::make_dir_at(dir_fd, path, mode);
  if (!made.ok() && made.error().os_errno == EEXIST) return {};
  return made;
}

std::int64_t ctime_ns(int fd) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return -1;
  return static_cast<std::int64_t>(info.st_ctim.tv_sec) * 1'000'000'000 + info.st_ctim.tv_nsec;
}

// By trying: so many changes fit into one tick, where the clock of the file system is the kernel's.
constexpr int kProbedChanges = 8;

Result<bool> probe_ctimes(int store_fd) {
  const char* const name = ".probe";
  TRY(make_dir_unless_there(store_fd, name, 0700));
  const UniqueFd dir = TRY(sys::open_at(store_fd, name, O_RDONLY | O_DIRECTORY));
  bool tell = true;
  std::int64_t before = ctime_ns(dir.get());
  for (int change = 0; change < kProbedChanges; ++change) {
    if (change % 2 == 0) {
      TRY(make_dir_unless_there(dir.get(), "entry", 0700));
    } else if (::unlinkat(dir.get(), "entry", AT_REMOVEDIR) != 0) {
      return os_error("unlinkat", name);
    }
    const std::int64_t now = ctime_ns(dir.get());
    tell = tell && now != before;
    before = now;
  }
  if (::unlinkat(store_fd, name, AT_REMOVEDIR) != 0) return os_error("unlinkat", name);
  return tell;
}

// tmpfs notices a store through a mapping only where it is the first access to the page. The file has no name: an
// engine that ends here leaves nothing. Where there is no room for it, nothing is known; to access the page directly
// would be fatal then (SIGBUS).
bool probe_stores(int store_fd) {
  constexpr std::size_t kBytes = 4096;
  const Result<UniqueFd> file = sys::open_at(store_fd, ".", O_RDWR | O_TMPFILE, 0600);
  if (!file.ok() || ::pwrite(file.value().get(), "", 1, kBytes - 1) != 1) return false;
  void* const mapped = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.value().get(), 0);
  if (mapped == MAP_FAILED) return false;
  const HostTid self{::getpid()};
  const RemoteAddress address{reinterpret_cast<std::uint64_t>(mapped)};
  char byte = 0;
  bool tells = sys::read_remote(self, address, &byte, 1).ok();
  const std::int64_t before = ctime_ns(file.value().get());
  tells = tells && sys::write_remote(self, address, &byte, 1).ok() && ctime_ns(file.value().get()) != before;
  ::munmap(mapped, kBytes);
  return tells;
}

// Without names: an engine that ends here leaves nothing.
bool probe_shared_blocks(int store_fd) {
  const Result<UniqueFd> from = sys::open_at(store_fd, ".", O_RDWR | O_TMPFILE, 0600);
  const Result<UniqueFd> to = sys::open_at(store_fd, ".", O_RDWR | O_TMPFILE, 0600);
  return from.ok() && to.ok() && ::ioctl(to.value().get(), FICLONE, from.value().get()) == 0;
}

}  // namespace

Result<LayerStore> LayerStore::create(int store_fd, std::vector<DonorStore> donors) {
  LayerStore store;
  TRY(make_dir_unless_there(store_fd, "layers", 0700));
  TRY(make_dir_unless_there(store_fd, "bases", 0700));
  store.dirs_ = std::make_shared<LayerDirs>(TRY(sys::duplicate(store_fd)), std::move(donors));
  store.next_id_ = store.dirs_->last_inherited() + 1;
  store.ctimes_tell_changes_ = TRY(probe_ctimes(store_fd));
  store.ctimes_tell_stores_ = probe_stores(store_fd);
  store.copies_share_blocks_ = probe_shared_blocks(store_fd);
  return store;
}

Result<UniqueFd> LayerDirs::open_anew(std::uint64_t id) const {
  const auto donor =
      std::find_if(donors_.begin(), donors_.end(), [&](const DonorStore& store) { return id <= store.last; });
  const int root = donor != donors_.end() ? donor->root.get() : root_.get();
  return sys::open_at(root, "layers/" + std::to_string(id) + "/upper", O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
}

Result<LayerDir> LayerDirs::open(std::uint64_t id) {
  const std::lock_guard lock(mutex_);
  const auto found = kept_.find(id);
  if (found != kept_.end()) {
    found->second.used = ++clock_;
    return found->second.dir;
  }
  Result<UniqueFd> opened = open_anew(id);
  if (!opened.ok() && opened.error().os_errno == EMFILE && !kept_.empty()) {
    kept_.clear();
    opened = open_anew(id);
  }
  auto dir = std::make_shared<const UniqueFd>(TRY(std::move(opened)));
  if (kept_.size() >= kMostKeptOpen) {
    kept_.erase(std::min_element(kept_.begin(), kept_.end(),
                                 [](const auto& a, const auto& b) { return a.second.used < b.second.used; }));
  }
  kept_[id] = {dir, ++clock_};
  return dir;
}

void LayerDirs::forget(std::uint64_t id) {
  const std::lock_guard lock(mutex_);
  kept_.erase(id);
}

Result<LayerDir> Layer::open() const {
  if (base) return base;
  return dirs->open(id);
}

std::vector<std::uint64_t> LayerStore::take_unused() {
  std::vector<std::uint64_t> ids = trash_->take();
  std::erase_if(ids, [this](std::uint64_t id) { return id <= dirs_->last_inherited(); });
  return ids;
}

void LayerTrash::add(std::uint64_t id) {
  const std::lock_guard lock(mutex_);
  ids_.push_back(id);
}

std::vector<std::uint64_t> LayerTrash::take() {
  const std::lock_guard lock(mutex_);
  return std::exchange(ids_, {});
}

Layer::~Layer() {
  if (trash && id != 0) trash->add(id);
}

Result<LayerStore::Fresh> LayerStore::make_layer(mode_t mode, int level) {
  Fresh fresh;
  const std::uint64_t id = std::atomic_ref(next_id_).fetch_add(1);
  const std::string path = "layers/" + std::to_string(id);
  const int root = dirs_->root();
  TRY(sys::make_dir_at(root, path, 0700));
  TRY(sys::make_dir_at(root, path + "/upper", mode & 07777));
  TRY(sys::make_dir_at(root, path + "/work", 0700));
  auto layer = std::make_shared<Layer>();
  layer->id = id;
  layer->level = level;
  layer->trash = trash_;
  layer->dirs = dirs_;
  fresh.dir = TRY(layer->open());
  if (::fchmod(fresh.dir->get(), mode & 07777) != 0) return os_error("fchmod", path);
  fresh.work = TRY(sys::open_at(root, path + "/work", O_RDONLY | O_DIRECTORY));
  fresh.layer = std::move(layer);
  return fresh;
}

Result<std::shared_ptr<const Layer>> LayerStore::open_layer(std::uint64_t id) {
  auto layer = std::make_shared<Layer>();
  (void)TRY(dirs_->open(id));
  layer->id = id;
  layer->dirs = dirs_;
  layer->trash = trash_;
  return std::shared_ptr<const Layer>(std::move(layer));
}

Result<std::vector<std::uint64_t>> LayerStore::adopt_ids() {
  UniqueFd dir = TRY(sys::open_at(dirs_->root(), "layers", O_RDONLY | O_DIRECTORY));
  std::vector<std::uint64_t> ids;
  for (const std::string& name : TRY(sys::list_dir(dir.get()))) {
    const UniqueFd layer = TRY(sys::open_at(dir.get(), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    for (const std::string& beside : TRY(sys::list_dir(layer.get()))) {
      if (beside.starts_with(kCopyPrefix)) ::unlinkat(layer.get(), beside.c_str(), 0);
    }
    ids.push_back(std::strtoull(name.c_str(), nullptr, 10));
    next_id_ = std::max(next_id_, ids.back() + 1);
  }
  return ids;
}

Result<std::shared_ptr<const Layer>> LayerStore::make_base(const std::string& name, mode_t mode,
                                                           const std::vector<std::string>& dirs) {
  const std::string path = "bases/" + name;
  const int root = dirs_->root();
  TRY(make_dir_unless_there(root, path, 0700));
  for (const std::string& dir : dirs) TRY(make_dir_unless_there(root, path + "/" + dir, 0755));
  auto layer = std::make_shared<Layer>();
  layer->base = std::make_shared<const UniqueFd>(TRY(sys::open_at(root, path, O_RDONLY | O_DIRECTORY)));
  if (::fchmod(layer->base->get(), mode) != 0) return os_error("fchmod", path);
  return std::shared_ptr<const Layer>(std::move(layer));
}

namespace {

constexpr int kMaxOpenDirs = 64;  // beyond this depth a subtree is moved up and removed from there

// Removes what a directory holds. Subtrees that lie too deep are moved into `top` and left there.
Result<void> empty_dir(int dir_fd, int top_fd, int depth, bool& moved) {
  for (const std::string& name : TRY(sys::list_dir(dir_fd))) {
    if (::unlinkat(dir_fd, name.c_str(), 0) == 0) continue;
    if (errno != EISDIR && errno != EPERM) return os_error("unlinkat", name);
    if (depth >= kMaxOpenDirs) {
      static std::atomic<std::uint64_t> counter{0};
      const std::string place = "deep-" + std::to_string(counter++);
      if (::renameat(dir_fd, name.c_str(), top_fd, place.c_str()) != 0) return os_error("renameat", name);
      moved = true;
      continue;
    }
    UniqueFd child = TRY(sys::open_at(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    TRY(empty_dir(child.get(), top_fd, depth + 1, moved));
    if (::unlinkat(dir_fd, name.c_str(), AT_REMOVEDIR) != 0) return os_error("unlinkat", name);
  }
  return {};
}

}  // namespace

Result<void> LayerStore::remove(std::uint64_t id) const {
  dirs_->forget(id);
  const std::string path = "layers/" + std::to_string(id);
  UniqueFd top = TRY(sys::open_at(dirs_->root(), path, O_RDONLY | O_DIRECTORY));
  for (bool moved = true; moved;) {
    moved = false;
    TRY(empty_dir(top.get(), top.get(), 0, moved));
  }
  fault_point(FaultPoint::kLayerEmptied);
  if (::unlinkat(dirs_->root(), path.c_str(), AT_REMOVEDIR) != 0) return os_error("unlinkat", path);
  return {};
}

namespace {

constexpr int kMaxTreeDepth = 2048;  // PATH_MAX / 2: no path inside can be deeper without relative steps

Result<void> measure_dir(int dir_fd, int depth, LayerUsage& usage) {
  if (depth > kMaxTreeDepth) return make_error(Code::kTooLarge, "a layer is nested deeper than 2,048 directories");
  const std::vector<std::string> names = TRY(sys::list_dir(dir_fd));
  for (const std::string& name : names) {
    struct stat info {};
    if (::fstatat(dir_fd, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) return os_error("fstatat", name);
    ++usage.files;
    usage.bytes += static_cast<std::uint64_t>(info.st_blocks) * 512;
    if (S_ISDIR(info.st_mode)) {
      UniqueFd child = TRY(sys::open_at(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
      TRY(measure_dir(child.get(), depth + 1, usage));
    }
  }
  return {};
}

}  // namespace

Result<LayerUsage> measure_layer(const Layer& layer) {
  LayerUsage usage;
  TRY(measure_dir(TRY(layer.open())->get(), 0, usage));
  return usage;
}

}  // namespace deltabox
