#include "deltacr/descriptors.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <string>

#include "base/side_by_side.h"
#include "deltacr/deleted_files.h"
#include "deltacr/kinds/read_state.h"
#include "deltacr/live_process.h"
#include "deltacr/shared_memory.h"
#include "deltacr/sockets.h"
#include "deltacr/terminals.h"
#include "sys/files.h"
#include "sys/kernel_abi.h"
#include "sys/processes.h"

namespace deltabox {

namespace {

constexpr int kMaxPipeBytes = 1 << 20;  // pipe-max-size of an ordinary user
constexpr std::size_t kSlotsAtOnce = 256;
constexpr std::size_t kSlotsWorthAThread = 64;  // to look at so many takes several times as long as to start one
constexpr unsigned kPtsMajor = 136;
constexpr unsigned kTtyMajor = 5;

std::string anonymous_type(const std::string& link) {
  // "anon_inode:[eventfd]" → eventfd
  const std::size_t open = link.find('[');
  const std::size_t close = link.find(']');
  if (open != std::string::npos && close != std::string::npos) return link.substr(open + 1, close - open - 1);
  constexpr std::string_view kPrefix = "anon_inode:";
  return link.starts_with(kPrefix) ? link.substr(kPrefix.size()) : link;
}

}  // namespace

Result<UniqueFd> reopen(int self_fd_dir, int fd, int flags) {
  return sys::open_at(self_fd_dir, std::to_string(fd), flags & ~(O_CREAT | O_EXCL | O_TRUNC | O_NOFOLLOW));
}

Result<DescriptorReader> DescriptorReader::create(int proc_fd, int self_fd_dir, std::pair<UniqueFd, UniqueFd> scratch) {
  DescriptorReader reader;
  reader.proc_fd_ = proc_fd;
  reader.self_fd_dir_ = self_fd_dir;
  const struct stat info = TRY(sys::stat_fd(scratch.first.get()));
  reader.pipe_device_ = info.st_dev;
  reader.scratch_read_ = std::move(scratch.first);
  reader.scratch_write_ = std::move(scratch.second);
  return reader;
}

void DescriptorReader::begin(std::vector<VolumeView> volumes, const BoundaryPipes* boundary, TerminalReader* terminals,
                             TreeImage* image) {
  volumes_ = std::move(volumes);
  boundary_ = boundary;
  terminals_ = terminals;
  image_ = image;
  met_.clear();
  met_pipes_.clear();
  watched_paths_.begin();
  watchers_.clear();
  files_with_locks_.clear();
  std::erase_if(handles_, [](const auto& entry) { return entry.second.expired(); });
}

Result<std::shared_ptr<const PipeHandle>> DescriptorReader::handle_of(const UniqueFd& duplicate,
                                                                      const Description& description) {
  const bool by_descriptor = !description.is_fifo_at_path();
  std::weak_ptr<const PipeHandle>& known = handles_[{description.device, description.inode, by_descriptor}];
  if (std::shared_ptr<const PipeHandle> handle = known.lock()) return handle;
  auto handle = std::make_shared<PipeHandle>();
  handle->inode = description.inode;
  if (by_descriptor) handle->path_fd = TRY(reopen(self_fd_dir_, duplicate.get(), O_PATH));
  known = handle;
  return std::shared_ptr<const PipeHandle>(std::move(handle));
}

// One whose file was removed has no path and needs none. Another that gets no volume here is on an overlay that was
// left, or can't be named.
Result<void> DescriptorReader::describe_fifo(const Seen& seen, Description& description) const {
  if ((description.status_flags & O_ACCMODE) == O_RDONLY) {
    pollfd end{seen.duplicate.get(), 0, 0};
    description.hung_up = ::poll(&end, 1, 0) == 1 && (end.revents & POLLHUP) != 0;
  }
  if (seen.info.stx_nlink == 0) return {};
  description.path = seen.link.empty() ? std::string("a path longer than 4,096 bytes") : seen.link;
  struct stat reached {};
  if (::lstat(description.path.c_str(), &reached) != 0 || reached.st_ino != description.inode) return {};
  for (std::size_t index = 0; index < volumes_.size(); ++index) {
    if (volumes_[index].mount_id == seen.info.stx_mnt_id) description.volume = static_cast<int>(index);
  }
  // On what is no volume no path ever stops to lead to it.
  if (description.volume < 0 && reached.st_dev == description.device) description.path.clear();
  return {};
}

// Runs on any thread.
Result<DescriptorReader::Seen> DescriptorReader::look_at(const Slot& slot) const {
  const int fd = slot.table->process->descriptors[slot.index].fd;
  Seen seen;
  seen.duplicate = TRY(sys::pidfd_get_fd(slot.table->pidfd, fd));
  const int duplicate = seen.duplicate.get();
  seen.info = TRY(sys::statx_at(duplicate, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_MNT_ID));
  seen.status_flags = ::fcntl(duplicate, F_GETFL);
  if (seen.status_flags < 0) return os_error("fcntl", "F_GETFL");
  const bool has_name =
      seen.kind() != S_IFIFO || makedev(seen.info.stx_dev_major, seen.info.stx_dev_minor) != pipe_device_;
  if (has_name || (seen.status_flags & O_PATH) != 0) {
    Result<std::string> link = sys::read_link_at(self_fd_dir_, std::to_string(duplicate));
    if (!link.ok() && link.error().os_errno != ENAMETOOLONG) return link.error();
    if (link.ok()) seen.link = link.release_value();
  }
  if (seen.is_plain()) seen.offset = ::lseek(duplicate, 0, SEEK_CUR);
  if (seen.is_plain() || (seen.kind() == S_IFIFO && has_name))
    seen.locks = TRY(read_locks(proc_fd_, slot.table->pid, fd));
  return seen;
}

Result<Description> DescriptorReader::describe(const Seen& seen) {
  const UniqueFd& duplicate = seen.duplicate;
  const struct statx& info = seen.info;
  Description description;
  description.device = makedev(info.stx_dev_major, info.stx_dev_minor);
  description.inode = info.stx_ino;
  description.status_flags = seen.status_flags;
  const mode_t kind = seen.kind();
  if (kind == S_IFIFO && (description.status_flags & O_PATH) == 0) {
    const bool has_name = description.device != pipe_device_;
    const bool leads_out = !has_name && boundary_->contains(description.inode);
    description.kind = leads_out ? DescriptionKind::kBoundary : DescriptionKind::kPipe;
    description.type = has_name ? "fifo" : "pipe";
    if (description.is_fifo()) TRY(describe_fifo(seen, description));
    if (!leads_out) description.pipe = TRY(handle_of(duplicate, description));
    return description;
  }
  const std::string& link = seen.link;
  if (link.empty()) {
    description.type = "long-path";
    for (std::size_t index = 0; index < volumes_.size(); ++index) {
      if (volumes_[index].mount_id == info.stx_mnt_id) description.volume = static_cast<int>(index);
    }
    return description;
  }
  if (kind == S_IFREG || kind == S_IFDIR || kind == S_IFIFO) {  // a FIFO: O_PATH
    // A file that was made without a name is opened anew like any other.
    if (kind == S_IFREG) description.status_flags &= ~O_TMPFILE;
    description.offset = seen.offset;
    if (link.starts_with("/memfd:") || link.starts_with("/SYSV") || link.starts_with("/dev/zero")) {
      description.type = "memfd";
      description.path = link;
      description.shared_object =
          TRY(shared_memory_->meet(description.device, description.inode, link, duplicate.get()));
      if (description.shared_object != 0) description.kind = DescriptionKind::kMemory;
      return description;
    }
    description.kind = DescriptionKind::kFile;
    description.type = kind == S_IFDIR ? "directory" : kind == S_IFREG ? "file" : "fifo";
    description.path = link;
    constexpr std::string_view kDeleted = " (deleted)";
    // A file may be called so; then it is there under this name.
    if (link.ends_with(kDeleted) && (info.stx_nlink == 0 || ::access(link.c_str(), F_OK) != 0)) {
      description.deleted = true;
      description.path.resize(link.size() - kDeleted.size());
    }
    for (std::size_t index = 0; index < volumes_.size(); ++index) {
      if (volumes_[index].mount_id == info.stx_mnt_id) description.volume = static_cast<int>(index);
    }
    return description;
  }
  if (kind == S_IFCHR) {
    description.device = makedev(info.stx_rdev_major, info.stx_rdev_minor);
    const bool terminal = info.stx_rdev_major == kTtyMajor || info.stx_rdev_major == kPtsMajor;
    if (!terminal && link.starts_with("/dev/")) {
      description.kind = DescriptionKind::kDevice;
      description.type = "device";
      description.path = link;
    } else {
      description.kind = DescriptionKind::kTerminal;
      description.type = "terminal";
    }
    return description;
  }
  description.path = link;
  if (kind == S_IFSOCK) {
    description.type = "socket";
  } else {
    description.type = anonymous_type(link);
  }
  return description;
}

// What of a descriptor a checkpoint does not hold, in words.
Result<void> DescriptorReader::warn_of_limits(int fd, const Description& description, const ProcessImage& process,
                                              std::vector<Notice>& warnings) const {
  const std::string name = "descriptor " + std::to_string(fd);
  const auto warn = [&](const std::string& kind, const std::string& reason) {
    warnings.push_back({process.pid.value, kind, name + ": " + reason});
  };
  if (description.type == "long-path") {
    const bool sealing = description.volume >= 0 && volumes_[static_cast<std::size_t>(description.volume)].sealing;
    if (sealing && (description.status_flags & O_ACCMODE) != O_RDONLY) {
      // It could not be opened anew on the next overlay, and would keep the sealed one writable.
      Error error = make_error(Code::kUnsupported,
                               "process " + std::to_string(process.pid.value) +
                                   " has a file open for writing whose path is longer than 4,096 bytes",
                               "Close the file (or end the process), then try again.");
      error.details.push_back({process.pid.value, description.type, name});
      return error;
    }
    warn(description.type, "its path is longer than 4,096 bytes; kept as it is while it stays open");
    return {};
  }
  if (description.type == "socket") return {};  // its reader does
  if (description.kind == DescriptionKind::kOther) {
    warn(description.type, "kept as it is while it stays open, its state is not captured");
    return {};
  }
  if (description.is_fifo() && description.volume < 0 && !description.path.empty()) {
    warn("fifo", "kept as it is: no path leads to it, or none does once its volume is sealed");
  } else if (description.is_fifo() && (description.status_flags & O_ASYNC) != 0) {
    warn("fifo", "it signals its owner (O_ASYNC): its path stops to lead to it when its volume is sealed");
  }
  if (description.kind != DescriptionKind::kFile) return {};
  if (description.deleted && !description.is_deleted_file()) {
    warn("deleted-file", description.path + ": kept as it is while it stays open, its contents are not captured");
  }
  return {};
}

// Locks of the description, and those of the process on its file.
void DescriptorReader::add_locks(int fd, Seen& seen, Description& description, ProcessImage& process) {
  const bool has_locks = description.kind == DescriptionKind::kFile || description.kind == DescriptionKind::kMemory ||
                         description.is_fifo();
  if (!has_locks) return;
  const bool is_first = files_with_locks_.emplace(process.incarnation, description.device, description.inode).second;
  for (const FileLock& lock : seen.locks) {
    if (lock.kind != LockKind::kPosix) {
      description.locks.push_back(lock);
    } else if (is_first) {
      process.locks.push_back({fd, lock});
    }
  }
}

void DescriptorReader::find_watched_paths(const ProcessImage& process, int fd, InotifyState& inotify) {
  watchers_.push_back({process.incarnation, fd});
  for (InotifyWatch& watch : inotify.watches) {
    const auto on = std::find_if(volumes_.begin(), volumes_.end(),
                                 [&](const VolumeView& volume) { return volume.device == watch.device; });
    if (on != volumes_.end()) watch.volume = static_cast<int>(on - volumes_.begin());
  }
  for (std::size_t index = 0; index < volumes_.size(); ++index) {
    watched_paths_.find(static_cast<int>(index), volumes_[index].root, volumes_[index].path, inotify.watches);
  }
}

// What an inotify that is made anew, because a volume that it watches is sealed, does not have any more.
void DescriptorReader::warn_of_inotify(int fd, const InotifyState& inotify, const ProcessImage& process,
                                       std::vector<Notice>& warnings) const {
  const bool is_remade = std::any_of(inotify.watches.begin(), inotify.watches.end(), [&](const InotifyWatch& watch) {
    return watch.volume >= 0 && volumes_[static_cast<std::size_t>(watch.volume)].sealing;
  });
  if (!is_remade) return;
  const std::string name = "descriptor " + std::to_string(fd) + ": ";
  if (inotify.queued_bytes != 0) {
    warnings.push_back({process.pid.value, "inotify", name + "events that it had not read are lost"});
  }
  const auto unknown = std::count_if(inotify.watches.begin(), inotify.watches.end(),
                                     [](const InotifyWatch& watch) { return watch.path.empty(); });
  if (unknown != 0) {
    warnings.push_back(
        {process.pid.value, "inotify",
         name + std::to_string(unknown) + " of its watches are on what was not found on a volume, and end"});
  }
}

void DescriptorReader::let_watchers_read(ProcessRegistry& registry) const {
  constexpr int kLooks = 20;
  constexpr int kBetweenLooks_us = 1000;
  for (int look = 0; look < kLooks; ++look) {
    const bool waits = std::any_of(watchers_.begin(), watchers_.end(), [&](const Watcher& watcher) {
      const LiveProcess* live = registry.find(watcher.process);
      if (live == nullptr) return false;
      const Result<UniqueFd> duplicate = sys::pidfd_get_fd(live->pidfd.get(), watcher.fd);
      if (!duplicate.ok()) return false;
      // The number may lead to something else by now; then the answer is harmless.
      const Result<std::uint64_t> bytes = queued_bytes(duplicate.value().get());
      return bytes.ok() && bytes.value() != 0;
    });
    if (!waits) return;
    ::usleep(kBetweenLooks_us);
  }
}

Result<void> DescriptorReader::read_tables(const std::vector<Table>& tables, std::vector<Notice>& warnings) {
  std::vector<Slot> slots;
  for (const Table& table : tables) {
    for (std::size_t index = 0; index < table.process->descriptors.size(); ++index) slots.push_back({&table, index});
  }
  // The engine holds a duplicate of each slot that it looks at.
  for (std::size_t first = 0; first < slots.size(); first += kSlotsAtOnce) {
    const std::size_t count = std::min(kSlotsAtOnce, slots.size() - first);
    std::vector<Seen> seen(count);
    const auto look = [&](std::size_t begin, std::size_t end) -> Result<void> {
      for (std::size_t index = begin; index < end; ++index) seen[index] = TRY(look_at(slots[first + index]));
      return {};
    };
    TRY(side_by_side(count, 8, count / kSlotsWorthAThread, look));
    for (std::size_t index = 0; index < count; ++index) {
      TRY(read_slot(slots[first + index], std::move(seen[index]), warnings));
    }
  }
  return {};
}

Result<void> DescriptorReader::read_slot(const Slot& at, Seen seen, std::vector<Notice>& warnings) {
  ProcessImage& process = *at.table->process;
  DescriptorSlot& slot = process.descriptors[at.index];
  const HostTid pid = at.table->pid;
  Description description = TRY(describe(seen));
  UniqueFd& duplicate = seen.duplicate;
  const auto key = std::pair(description.device, description.inode);
  bool shared = false;
  // Those of one file are kept in the kernel's order of descriptions: each of a server's many processes may have one.
  auto [place, last] = met_.equal_range(key);
  for (std::ptrdiff_t left = std::distance(place, last); left > 0 && !shared;) {
    const auto middle = std::next(place, left / 2);
    const int order =
        TRY(sys::compare_objects(pid, middle->second.pid, abi::kKcmpFile, static_cast<std::uint64_t>(slot.fd),
                                 static_cast<std::uint64_t>(middle->second.fd)));
    shared = order == 0;
    if (shared) slot.description = middle->second.description;
    if (order > 0) place = std::next(middle);
    left = order > 0 ? left - left / 2 - 1 : left / 2;
  }
  if (shared) {
    // Its own POSIX locks are found through a description that it shares, too.
    Description known = image_->descriptions[slot.description];
    add_locks(slot.fd, seen, known, process);
    return {};
  }
  add_locks(slot.fd, seen, description, process);
  if (description.kind == DescriptionKind::kOther) {
    description.state = TRY(read_object_state(description.type, {proc_fd_, pid, slot.fd, duplicate.get()}));
    if (is_captured(description.state)) description.kind = DescriptionKind::kObject;
    if (auto* inotify = std::get_if<InotifyState>(&description.state)) {
      find_watched_paths(process, slot.fd, *inotify);
      warn_of_inotify(slot.fd, *inotify, process, warnings);
    }
  }
  slot.description = static_cast<std::uint32_t>(image_->descriptions.size());
  met_.emplace_hint(place, key, Met{pid, slot.fd, slot.description});
  TRY(warn_of_limits(slot.fd, description, process, warnings));
  if (description.is_deleted_file()) TRY(deleted_files_->meet(description, duplicate.get()));
  if (description.kind == DescriptionKind::kTerminal) {
    terminals_->meet(description, std::move(duplicate));
  } else if (description.type == "socket") {
    sockets_->meet(slot.description, process.pid, slot.fd, std::move(duplicate));
  } else if (description.kind == DescriptionKind::kPipe) {
    const auto known = std::find_if(met_pipes_.begin(), met_pipes_.end(),
                                    [&](const MetPipe& pipe) { return pipe.handle == description.pipe; });
    if (known == met_pipes_.end()) met_pipes_.push_back({description.pipe, std::move(duplicate)});
  }
  image_->descriptions.push_back(std::move(description));
  return {};
}

Result<std::int64_t> DescriptorReader::description_of(const Met& epoll, const EpollEntry& entry) const {
  const auto is_watched = [&](HostTid pid, int fd) {
    return sys::watches(epoll.pid, epoll.fd, entry.fd, entry.same_fd_before, pid, fd);
  };
  // Mostly it is what the number leads to still.
  for (const ProcessImage& process : image_->processes) {
    if (process.host_pid != epoll.pid) continue;
    for (const DescriptorSlot& slot : process.descriptors) {
      if (slot.fd == entry.fd && TRY(is_watched(epoll.pid, slot.fd))) return std::int64_t{slot.description};
    }
  }
  // A description of a device has another device number than its inode.
  for (const auto& [key, met] : met_) {
    if (key.second == entry.inode && TRY(is_watched(met.pid, met.fd))) return std::int64_t{met.description};
  }
  return std::int64_t{-1};
}

Result<void> DescriptorReader::find_watched() {
  for (const auto& [key, met] : met_) {
    auto* epoll = std::get_if<EpollState>(&image_->descriptions[met.description].state);
    if (epoll == nullptr) continue;
    for (EpollEntry& entry : epoll->entries) entry.description = TRY(description_of(met, entry));
  }
  return {};
}

// A read ends where a packet does. The byte behind the last tells whether that ended one; none fits where every place
// is taken, which packets do.
Result<void> DescriptorReader::read_scratch(std::size_t size_bytes, PipeContents& contents) {
  const bool is_marked = ::write(scratch_write_.get(), "", 1) == 1;
  contents.bytes.resize(size_bytes + (is_marked ? 1 : 0));
  std::size_t filled = 0;
  while (filled < contents.bytes.size()) {
    const ssize_t count = ::read(scratch_read_.get(), contents.bytes.data() + filled, contents.bytes.size() - filled);
    if (count <= 0) return os_error("read", "scratch pipe");
    filled += static_cast<std::size_t>(count);
    const bool ends_packet = filled < contents.bytes.size() || (!is_marked && !contents.packet_bytes.empty());
    if (ends_packet) contents.packet_bytes.push_back(static_cast<std::uint32_t>(count));
  }
  contents.bytes.resize(size_bytes);
  return {};
}

Result<void> DescriptorReader::read_pipe_contents() {
  for (MetPipe& met : met_pipes_) {
    PipeContents contents;
    contents.pipe = met.handle;
    contents.capacity_bytes = ::fcntl(met.duplicate.get(), F_GETPIPE_SZ);
    int available = 0;
    if (::ioctl(met.duplicate.get(), FIONREAD, &available) != 0) return os_error("FIONREAD", "pipe");
    if (available > 0) {
      // A reading end of our own, for the length of this pause: tee(2) copies without taking.
      UniqueFd read_end = TRY(reopen(self_fd_dir_, met.duplicate.get(), O_RDONLY | O_NONBLOCK));
      // Each write may lie in a buffer of its own, and one more is for the byte behind the last.
      if (::fcntl(scratch_write_.get(), F_GETPIPE_SZ) <= contents.capacity_bytes) {
        (void)::fcntl(scratch_write_.get(), F_SETPIPE_SZ, contents.capacity_bytes + 1);
      }
      const ssize_t copied = ::tee(read_end.get(), scratch_write_.get(), kMaxPipeBytes, SPLICE_F_NONBLOCK);
      if (copied < 0) return os_error("tee", "pipe");
      TRY(read_scratch(static_cast<std::size_t>(copied), contents));
      if (copied != available) {
        return make_error(Code::kUnsupported,
                          "a pipe holds more than can be copied at once (" + std::to_string(available) + " bytes)");
      }
    }
    image_->pipes.push_back(std::move(contents));
  }
  met_pipes_.clear();
  return {};
}

Result<void> replace_pipe_contents(int self_fd_dir, int path_fd, const PipeContents& wanted) {
  UniqueFd read_end = TRY(reopen(self_fd_dir, path_fd, O_RDONLY | O_NONBLOCK));
  char sink[65536];
  while (::read(read_end.get(), sink, sizeof sink) > 0) {
  }
  if (wanted.bytes.empty()) return {};
  UniqueFd write_end = TRY(reopen(self_fd_dir, path_fd, O_WRONLY | O_NONBLOCK));
  return fill_pipe(write_end.get(), wanted);
}

namespace {

// A user with more pipes than the host likes (pipe-user-pages-soft) gets small ones and may not enlarge any (EPERM): so
// it is with this one, as with each that its programs make.
Result<void> change_capacity(int end, int capacity_bytes) {
  if (::fcntl(end, F_SETPIPE_SZ, capacity_bytes) < 0 && errno != EPERM) return os_error("fcntl", "F_SETPIPE_SZ");
  return {};
}

}  // namespace

Result<void> fill_pipe(int write_end, const PipeContents& wanted) {
  if (::fcntl(write_end, F_GETPIPE_SZ) < wanted.capacity_bytes) TRY(change_capacity(write_end, wanted.capacity_bytes));
  const int flags = ::fcntl(write_end, F_GETFL);
  const char* next = wanted.bytes.data();
  for (const std::uint32_t size : wanted.packet_bytes) {
    // What was written without O_DIRECT before a packet is read together with it; a packet has no more than a page.
    const std::size_t packet = std::min<std::size_t>(size, kPageSize);
    TRY(sys::write_all(write_end, next, size - packet));
    if (::fcntl(write_end, F_SETFL, flags | O_DIRECT) != 0) return os_error("fcntl", "O_DIRECT");
    TRY(sys::write_all(write_end, next + size - packet, packet));
    if (::fcntl(write_end, F_SETFL, flags) != 0) return os_error("fcntl", "F_SETFL");
    next += size;
  }
  return sys::write_all(write_end, next, static_cast<std::size_t>(wanted.bytes.data() + wanted.bytes.size() - next));
}

Result<void> set_pipe_capacity(int self_fd_dir, int path_fd, int capacity_bytes) {
  const UniqueFd end = TRY(reopen(self_fd_dir, path_fd, O_RDONLY | O_NONBLOCK));
  return change_capacity(end.get(), capacity_bytes);
}

}  // namespace deltabox
