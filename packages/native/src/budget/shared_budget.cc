#include "budget/shared_budget.h"

#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstring>
#include <limits>

#include "sys/files.h"

namespace deltabox {

namespace {

constexpr std::size_t kEntries = 1024;  // the header is the first
constexpr std::size_t kEntryBytes = 64;
constexpr std::array<char, 8> kMagic{'D', 'B', 'X', 'H', 'O', 'T', '1', '\0'};
constexpr std::uint64_t kNever = std::numeric_limits<std::uint64_t>::max();
constexpr off_t kWakeOffset = 16;

struct flock range_of(std::size_t entry, short type) {
  struct flock range {};
  range.l_type = type;
  range.l_whence = SEEK_SET;
  range.l_start = static_cast<off_t>(entry * kEntryBytes);
  range.l_len = kEntryBytes;
  return range;
}

std::uint64_t load(const std::uint64_t& value) {
  return std::atomic_ref(const_cast<std::uint64_t&>(value)).load(std::memory_order_relaxed);
}

void store(std::uint64_t& value, std::uint64_t wanted) {
  std::atomic_ref(value).store(wanted, std::memory_order_relaxed);
}

}  // namespace

struct SharedBudget::Entry {
  std::uint64_t hot_bytes;
  std::uint64_t oldest_use_ns;
  std::uint64_t asked;
  std::uint64_t reserved[5];
};

struct SharedBudget::File {
  std::array<char, 8> magic;
  std::uint64_t bound_bytes;
  std::uint64_t wake;
  std::uint64_t reserved[5];
  Entry entries[kEntries - 1];
};

Result<std::unique_ptr<SharedBudget>> SharedBudget::join(const std::string& path) {
  static_assert(sizeof(Entry) == kEntryBytes && sizeof(File) == kEntries * kEntryBytes);
  std::unique_ptr<SharedBudget> budget(new SharedBudget);
  budget->fd_ = TRY(sys::open_at(AT_FDCWD, path, O_RDWR | O_CREAT | O_NOFOLLOW, 0600));
  const int fd = budget->fd_.get();
  const struct stat info = TRY(sys::stat_fd(fd));
  std::array<char, 8> magic{};
  if (info.st_size == 0) {
    if (::pwrite(fd, kMagic.data(), kMagic.size(), 0) != static_cast<ssize_t>(kMagic.size())) {
      return os_error("pwrite", path);
    }
  } else if (::pread(fd, magic.data(), magic.size(), 0) < 0 || magic != kMagic) {
    return make_error(Code::kDamaged, path + " is not a budget of this version", "Remove it; the bound is set anew.");
  }
  if (static_cast<std::size_t>(info.st_size) < sizeof(File) && ::ftruncate(fd, sizeof(File)) != 0) {
    return os_error("ftruncate", path);
  }
  void* mapped = ::mmap(nullptr, sizeof(File), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (mapped == MAP_FAILED) return os_error("mmap", path);
  budget->file_ = static_cast<File*>(mapped);
  for (std::size_t entry = 1; entry < kEntries && budget->own_ == kNone; ++entry) {
    struct flock range = range_of(entry, F_WRLCK);
    if (::fcntl(fd, F_OFD_SETLK, &range) == 0) budget->own_ = entry;
  }
  if (budget->own_ != kNone) budget->file_->entries[budget->own_ - 1] = {0, kNever, 0, {}};
  budget->known_bound_ = budget->bound_bytes();
  budget->notify_ = UniqueFd(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (budget->notify_ && ::inotify_add_watch(budget->notify_.get(), path.c_str(), IN_MODIFY) < 0) {
    budget->notify_.reset();
  }
  return budget;
}

SharedBudget::~SharedBudget() {
  if (file_ != nullptr) ::munmap(file_, sizeof(File));
}

bool SharedBudget::acknowledge() {
  char events[4096];
  while (::read(notify_.get(), events, sizeof events) > 0) {
  }
  bool asked = own_ != kNone && load(file_->entries[own_ - 1].asked) != 0;
  if (asked) store(file_->entries[own_ - 1].asked, 0);
  const std::uint64_t bound = bound_bytes();
  if (bound != known_bound_) asked = true;
  known_bound_ = bound;
  return asked;
}

void SharedBudget::tell(std::uint64_t hot_bytes, std::optional<std::uint64_t> oldest_use_ns) {
  if (own_ == kNone) return;
  store(file_->entries[own_ - 1].hot_bytes, hot_bytes);
  store(file_->entries[own_ - 1].oldest_use_ns, oldest_use_ns.value_or(kNever));
}

std::uint64_t SharedBudget::bound_bytes() const { return load(file_->bound_bytes); }

bool SharedBudget::is_alive(std::size_t entry) const {
  if (entry == own_) return true;
  struct flock range = range_of(entry, F_WRLCK);
  return ::fcntl(fd_.get(), F_OFD_GETLK, &range) == 0 && range.l_type != F_UNLCK;
}

std::uint64_t SharedBudget::total_bytes() const {
  std::uint64_t total = 0;
  for (std::size_t entry = 1; entry < kEntries; ++entry) {
    const std::uint64_t bytes = load(file_->entries[entry - 1].hot_bytes);
    if (bytes != 0 && is_alive(entry)) total += bytes;
  }
  return total;
}

std::size_t SharedBudget::next_to_go() const {
  const std::uint64_t bound = bound_bytes();
  if (bound == 0 || total_bytes() <= bound) return kNone;
  std::size_t next = kNone;
  std::uint64_t oldest = kNever;
  for (std::size_t entry = 1; entry < kEntries; ++entry) {
    const std::uint64_t use = load(file_->entries[entry - 1].oldest_use_ns);
    // An entry that nobody had yet is all zeros.
    if (load(file_->entries[entry - 1].hot_bytes) == 0 || use >= oldest || !is_alive(entry)) continue;
    next = entry;
    oldest = use;
  }
  return next;
}

SharedBudget::Turn SharedBudget::turn() const {
  const std::size_t next = next_to_go();
  if (next == kNone) return Turn::kNobodys;
  return next == own_ ? Turn::kOurs : Turn::kAnothers;
}

void SharedBudget::ask_another() {
  const std::size_t next = next_to_go();
  if (next == kNone || next == own_) return;
  if (std::atomic_ref(file_->entries[next - 1].asked).exchange(1) != 0) return;
  const std::uint64_t any = next;  // inotify tells of writes, not of changes through a mapping
  (void)!::pwrite(fd_.get(), &any, sizeof any, kWakeOffset);
}

}  // namespace deltabox
