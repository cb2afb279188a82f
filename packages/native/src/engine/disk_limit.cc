#include "engine/disk_limit.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "sys/files.h"
#include "tracee/proc_files.h"

namespace deltabox {

namespace {

constexpr std::uint64_t kIntervalMs = 1000;
// A measurement may take a tenth of one processor, and the thread goes after tasks and engine anyway.
constexpr std::uint64_t kRestFactor = 10;
// Each level holds a descriptor of the engine, and a program inside may nest as deep as it likes.
constexpr int kMaxDepth = 200;
constexpr std::uint64_t kTooDeep = UINT64_MAX / 2;
// An empty file has no blocks, but an inode, of which file systems have so many.
constexpr std::uint64_t kLeastBytes = 512;
constexpr long kOverlayMagic = 0x794c7630;

using InodeName = std::pair<std::uint64_t, std::uint64_t>;

std::uint64_t bytes_of(const struct stat& info) {
  return std::max(kLeastBytes, static_cast<std::uint64_t>(info.st_blocks) * 512);
}

class Measurement {
 public:
  void add_tree(int dir_fd, int depth) {
    if (depth > kMaxDepth) {
      bytes_ = kTooDeep;
      return;
    }
    const Result<std::vector<std::string>> names = sys::list_dir(dir_fd);
    if (!names.ok()) return;  // removed meanwhile
    for (const std::string& name : names.value()) {
      if (bytes_ >= kTooDeep) return;
      struct stat info {};
      if (::fstatat(dir_fd, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) continue;
      if (S_ISDIR(info.st_mode)) {
        bytes_ += bytes_of(info);
        const Result<UniqueFd> child = sys::open_at(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
        if (child.ok()) add_tree(child.value().get(), depth + 1);
      } else if (info.st_nlink < 2 || seen_.insert({info.st_dev, info.st_ino}).second) {
        // Merged layers are hard links of the same inodes.
        bytes_ += bytes_of(info);
      }
    }
  }

  // Files that tasks hold open without a name take space too, and no walk over the layers finds them.
  void add_deleted(int proc_fd, HostTid task) {
    const std::string place = std::to_string(task.value) + "/fd";
    const Result<UniqueFd> dir = sys::open_at(proc_fd, place, O_RDONLY | O_DIRECTORY);
    if (!dir.ok()) return;
    const Result<std::vector<std::string>> slots = sys::list_dir(dir.value().get());
    if (!slots.ok()) return;
    for (const std::string& slot : slots.value()) {
      struct stat info {};
      if (::fstatat(dir.value().get(), slot.c_str(), &info, 0) != 0) continue;
      if (!S_ISREG(info.st_mode) || info.st_nlink > 0) continue;
      // Memory (memfd) is not the disk's.
      const Result<UniqueFd> file = sys::open_at(dir.value().get(), slot, O_PATH);
      struct statfs system {};
      if (!file.ok() || ::fstatfs(file.value().get(), &system) != 0 || system.f_type != kOverlayMagic) continue;
      if (seen_.insert({info.st_dev, info.st_ino}).second) bytes_ += bytes_of(info);
    }
  }

  std::uint64_t bytes() const { return bytes_; }

 private:
  std::uint64_t bytes_ = 0;
  std::set<InodeName> seen_;
};

}  // namespace

Result<std::unique_ptr<DiskLimit>> DiskLimit::create(std::uint64_t limit_bytes, const SandboxNamespaces& namespaces) {
  std::unique_ptr<DiskLimit> made(new DiskLimit);
  if (limit_bytes == 0) return made;
  made->limit_bytes_ = limit_bytes;
  made->layers_ = TRY(sys::open_at(namespaces.store.get(), "layers", O_RDONLY | O_DIRECTORY));
  made->proc_ = TRY(sys::duplicate(namespaces.host_proc.get()));
  made->init_ = namespaces.init;
  made->worker_ = TRY(StoreWorker::start());
  made->measure_now();
  return made;
}

std::uint64_t DiskLimit::measure() const {
  Measurement measurement;
  const UniqueFd layers = [&] {
    // Of its own, since two walks of one descriptor would share its offset.
    Result<UniqueFd> opened = sys::open_at(layers_.get(), ".", O_RDONLY | O_DIRECTORY);
    return opened.ok() ? opened.release_value() : UniqueFd();
  }();
  measurement.add_tree(layers.get(), 0);
  for (const HostTid task : descendants_of(proc_.get(), init_)) measurement.add_deleted(proc_.get(), task);
  return measurement.bytes();
}

void DiskLimit::measure_now() {
  if (limit_bytes_ > 0) used_bytes_ = measure();
}

void DiskLimit::start_if_due(std::uint64_t now_ms) {
  if (wait_ms(now_ms) != 0) return;
  is_measuring_ = true;
  is_watching_ = false;
  started_at_ms_ = now_ms;
  worker_->post([this] { measured_bytes_ = measure(); });
}

void DiskLimit::finish(std::uint64_t now_ms, bool tasks_run) {
  worker_->acknowledge();
  is_measuring_ = false;
  used_bytes_ = measured_bytes_;
  next_at_ms_ = now_ms + std::max(kIntervalMs, (now_ms - started_at_ms_) * kRestFactor);
  if (tasks_run) is_watching_ = true;
}

int DiskLimit::wait_ms(std::uint64_t now_ms) const {
  if (limit_bytes_ == 0 || is_measuring_ || !is_watching_) return -1;
  return next_at_ms_ > now_ms ? static_cast<int>(next_at_ms_ - now_ms) : 0;
}

Error DiskLimit::no_space() const {
  const std::string used =
      used_bytes_ >= kTooDeep ? "directories nested deeper than 200 levels" : std::to_string(used_bytes_) + " bytes";
  return make_error(Code::kNoSpace,
                    "the sandbox has " + used + " on the disk, and limits.diskBytes is " + std::to_string(limit_bytes_),
                    "Remove files that were made since the last checkpoint, delete checkpoints, or roll back with "
                    "redo: false; then call again.");
}

void DiskLimit::fill_info(v1::SandboxInfo& info) const {
  if (ended_processes_ > 0) {
    info.add_warnings(std::to_string(ended_processes_) +
                      " processes of this sandbox were ended because its disk limit was reached");
  }
  if (is_over()) info.add_warnings(no_space().message + ": commands, checkpoints and writes are refused");
}

}  // namespace deltabox
