#include "images/image_archive.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <map>
#include <optional>

#include "images/archive.h"
#include "sys/files.h"

namespace deltabox {

namespace images {

namespace {

// Neighbouring pages of a map that lie one behind the other in a file.
struct PageRun {
  std::uint64_t first = 0;
  std::uint64_t file = 0;
  std::uint32_t index = 0;
  std::uint32_t count = 0;
};
constexpr std::uint32_t kMaxRunPages = 1u << 20;  // what a damaged one can ask for has an end

class ImageWriter : public Writer {
 public:
  explicit ImageWriter(PageFiles& files) : files_(files) {}

  void pages(PageMap& map) {
    std::vector<PageRun> runs;
    map.for_each(0, ~PageNumber{0}, [&](PageNumber number, PageId page) {
      const PagePlace place = files_.place(page);
      if (place.file != 0) used_.insert(place.file);
      if (!runs.empty() && runs.back().count < kMaxRunPages && runs.back().first + runs.back().count == number &&
          runs.back().file == place.file && (place.file == 0 || runs.back().index + runs.back().count == place.index)) {
        ++runs.back().count;
      } else {
        runs.push_back({number, place.file, place.index, 1});
      }
    });
    archive(*this, runs);
  }
  void pipe(std::shared_ptr<const PipeHandle>& handle) {
    std::uint64_t inode = handle ? handle->inode : 0;
    archive(*this, inode);
  }
  void file(FileContents& contents) {
    const Result<UniqueFd> opened = contents.file->open(O_RDONLY);
    if (!opened.ok()) return keep(opened.error());
    const int fd = opened.value().get();
    Result<struct stat> info = sys::stat_fd(fd);
    if (!info.ok()) return keep(info.release_error());
    std::string data(static_cast<std::size_t>(info.value().st_size), '\0');
    std::size_t done = 0;
    while (done < data.size()) {
      const ssize_t count = ::pread(fd, data.data() + done, data.size() - done, static_cast<off_t>(done));
      if (count <= 0) return keep(os_error("pread", "a file without a name"));
      done += static_cast<std::size_t>(count);
    }
    archive(*this, data);
  }
  void keep(Error error) {
    if (!error_) error_ = std::move(error);
  }
  std::optional<Error>& error() { return error_; }
  std::set<std::uint64_t>& used() { return used_; }

 private:
  PageFiles& files_;
  std::set<std::uint64_t> used_;
  std::optional<Error> error_;
};

class ImageReader : public Reader {
 public:
  ImageReader(std::string_view in, const ImageSurroundings& around) : Reader(in), around_(around) {}

  void pages(PageMap& map) {
    std::vector<PageRun> runs;
    archive(*this, runs);
    std::vector<PageUpdate> updates;
    for (const PageRun& run : runs) {
      const bool ordered = updates.empty() || updates.back().page < run.first;
      if (!ordered || run.count > kMaxRunPages || run.first >> 36 != 0 ||
          run.first + run.count > std::uint64_t{1} << 36)
        return fail();
      Result<PageId> first = around_.pages.find({run.file, run.file == 0 ? 0 : run.index}, run.count);
      if (!first.ok()) return give_up(updates, first.release_error());
      for (std::uint32_t offset = 0; offset < run.count; ++offset) {
        const PageId page = run.file == 0 ? kZeroPage : first.value() + offset;
        around_.store.add_reference(page);
        updates.push_back({run.first + offset, page});
      }
    }
    map = PageMap::updated(PageMap(), updates, around_.store);
  }
  void pipe(std::shared_ptr<const PipeHandle>& handle) {
    std::uint64_t inode = 0;
    archive(*this, inode);
    if (inode == 0 || failed()) return;
    auto& made = pipes_[inode];
    if (!made) {
      Result<std::shared_ptr<const PipeHandle>> fresh = make_pipe();
      if (!fresh.ok()) return keep(fresh.release_error());
      made = fresh.release_value();
    }
    handle = made;
  }
  void file(FileContents& contents) {
    std::string data;
    archive(*this, data);
    if (failed()) return;
    const auto write = [&]() -> Result<void> {
      contents.file = TRY(around_.stored_files.make());
      return sys::write_all(TRY(contents.file->open(O_RDWR)).get(), data.data(), data.size());
    };
    const Result<void> written = write();
    if (!written.ok()) return keep(written.error());
  }
  void keep(Error error) {
    fail();
    if (!error_) error_ = std::move(error);
  }
  std::optional<Error>& error() { return error_; }
  // By the inode that the pipe had.
  const std::map<std::uint64_t, std::shared_ptr<const PipeHandle>>& pipes() const { return pipes_; }

 private:
  void give_up(const std::vector<PageUpdate>& updates, Error error) {
    for (const PageUpdate& update : updates) around_.store.drop_reference(*update.contents);
    keep(std::move(error));
  }
  // As DescriptorReader keeps one: by its inode alone.
  Result<std::shared_ptr<const PipeHandle>> make_pipe() const {
    auto [read_end, write_end] = TRY(sys::make_pipe(0));
    auto handle = std::make_shared<PipeHandle>();
    handle->inode = TRY(sys::stat_fd(read_end.get())).st_ino;
    handle->path_fd = TRY(sys::open_at(around_.self_fd_dir, std::to_string(read_end.get()), O_PATH));
    return std::shared_ptr<const PipeHandle>(std::move(handle));
  }

  const ImageSurroundings& around_;
  std::map<std::uint64_t, std::shared_ptr<const PipeHandle>> pipes_;
  std::optional<Error> error_;
};

// --- Leaves ---

template <typename A>
void archive(A& a, PageRun& run) {
  archive_bytes(a, run);
}
template <typename A>
void archive(A& a, siginfo_t& info) {
  archive_bytes(a, info);
}
template <typename A>
void archive(A& a, itimerval& timer) {
  archive_bytes(a, timer);
}
template <typename A>
void archive(A& a, rlimit& limit) {
  archive_bytes(a, limit);
}
template <typename A>
void archive(A& a, KernelSigaction& action) {
  archive_bytes(a, action);
}
template <typename A>
void archive(A& a, PageMap& map) {
  a.pages(map);
}
template <typename A>
void archive(A& a, std::shared_ptr<const PipeHandle>& handle) {
  a.pipe(handle);
}

// Whoever gives one of these a new member archives it here, too, or a fork would not have it.
template <typename T, std::size_t kKnownBytes>
constexpr void all_members_are_archived() {
  static_assert(sizeof(T) == kKnownBytes);
}

// --- Processes ---

template <typename A>
void archive(A& a, Mapping& mapping) {
  parts(a, mapping.range, mapping.protection, mapping.shared, mapping.file_offset, mapping.device, mapping.inode,
        mapping.name, mapping.overlay, mapping.volume, mapping.in_writable_layer, mapping.shared_object);
}
template <typename A>
void archive(A& a, ThreadImage& thread) {
  parts(a, thread.tid, thread.inside);
  archive_bytes(a, thread.registers);
  parts(a, thread.timed_call, thread.extended_state, thread.signal_mask);
  archive_bytes(a, thread.alternate_stack);
  archive_bytes(a, thread.kernel_pointers);
  archive_bytes(a, thread.attributes);
  archive_bytes(a, thread.capabilities);
  parts(a, thread.name, thread.pending);
}
template <typename A>
void archive(A& a, FileLock& lock) {
  archive_choice(a, lock.kind, LockKind::kOpenFile);
  parts(a, lock.exclusive, lock.start, lock.length);
}
template <typename A>
void archive(A& a, ProcessLock& lock) {
  parts(a, lock.fd, lock.lock);
}
template <typename A>
void archive(A& a, DescriptorSlot& slot) {
  parts(a, slot.fd, slot.close_on_exec, slot.description);
}
template <typename A>
void archive(A& a, ProgramImage& program) {
  parts(a, program.path, program.start_code, program.end_code, program.start_data, program.end_data,
        program.start_break, program.start_stack, program.arguments, program.environment, program.auxiliary_vector);
}
template <typename A>
void archive(A& a, ZombieImage& zombie) {
  parts(a, zombie.pid, zombie.parent, zombie.session, zombie.process_group, zombie.exit_status);
}
template <typename A>
void archive(A& a, PosixTimer& timer) {
  archive_bytes(a, timer);
}
template <typename A>
void archive(A& a, Credentials& credentials) {
  archive_bytes(a, credentials.uids);
  archive_bytes(a, credentials.gids);
  parts(a, credentials.groups, credentials.bounding, credentials.ambient, credentials.securebits);
}
template <typename A>
void archive(A& a, ProcessImage& process) {
  parts(a, process.incarnation, process.address_space, process.host_pid, process.pid, process.parent, process.threads,
        process.program, process.mappings, process.pages, process.program_break, process.actions, process.timers,
        process.limits, process.process_group, process.session, process.umask);
  archive(a, process.credentials);
  archive_bytes(a, process.attributes);
  parts(a, process.working_dir, process.working_dir_volume, process.working_dir_deleted, process.pending,
        process.descriptors, process.locks, process.group_stopped, process.posix_timers);
}

// --- Descriptions ---

template <typename A>
void archive(A& a, EpollEntry& entry) {
  parts(a, entry.fd, entry.events, entry.data, entry.device, entry.inode, entry.same_fd_before, entry.description);
}
template <typename A>
void archive(A& a, EpollState& state) {
  archive(a, state.entries);
}
template <typename A>
void archive(A& a, EventfdState& state) {
  parts(a, state.count, state.semaphore);
}
template <typename A>
void archive(A& a, TimerfdState& state) {
  parts(a, state.clock, state.flags, state.expiry_ns, state.interval_ns, state.ticks);
}
template <typename A>
void archive(A& a, SignalfdState& state) {
  archive(a, state.mask);
}
template <typename A>
void archive(A& a, InotifyWatch& watch) {
  parts(a, watch.descriptor, watch.mask, watch.device, watch.inode, watch.volume, watch.path);
}
template <typename A>
void archive(A& a, InotifyState& state) {
  parts(a, state.watches, state.queued_bytes);
}
template <typename A>
void archive(A& a, SocketOption& option) {
  parts(a, option.level, option.name, option.value);
}
template <typename A>
void archive(A& a, SocketNode& node) {
  parts(a, node.path, node.volume, node.mode, node.uid, node.gid);
  archive_bytes(a, node.times[0]);
  archive_bytes(a, node.times[1]);
}
template <typename A>
void archive(A& a, SocketState& socket) {
  parts(a, socket.cookie, socket.family, socket.type, socket.protocol, socket.name, socket.peer_name, socket.listens,
        socket.backlog, socket.peer_cookie, socket.peer_is_gone, socket.target_cookie, socket.shutdown, socket.queue,
        socket.has_named_senders, socket.options, socket.node, socket.is_complete);
}
template <typename A>
void archive(A& a, Description& description) {
  archive_choice(a, description.kind, DescriptionKind::kOther);
  parts(a, description.type, description.status_flags, description.offset, description.path, description.volume,
        description.deleted, description.hung_up, description.device, description.inode, description.pipe,
        description.state, description.shared_object, description.socket, description.terminal, description.locks);
}
template <typename A>
void archive(A& a, PipeContents& pipe) {
  parts(a, pipe.pipe, pipe.bytes, pipe.packet_bytes, pipe.capacity_bytes);
}

// --- The rest of a tree ---

template <typename A>
void archive(A& a, TerminalImage& terminal) {
  parts(a, terminal.number, terminal.command, terminal.session, terminal.foreground_group);
  archive_bytes(a, terminal.modes);
  archive_bytes(a, terminal.size);
  parts(a, terminal.locked, terminal.packets, terminal.has_slave, terminal.uid, terminal.gid, terminal.mode,
        terminal.input, terminal.output);
}
template <typename A>
void archive(A& a, FileContents& contents) {
  a.file(contents);
  parts(a, contents.mode, contents.uid, contents.gid);
  archive_bytes(a, contents.times[0]);
  archive_bytes(a, contents.times[1]);
}
template <typename A>
void archive(A& a, DeletedFile& file) {
  parts(a, file.volume_path, file.device, file.inode, file.contents);
}
template <typename A>
void archive(A& a, SharedMemory& memory) {
  parts(a, memory.id, memory.name, memory.system_v, memory.has_descriptor, memory.segment, memory.key, memory.uid,
        memory.is_removed, memory.size_bytes, memory.mode, memory.seals, memory.pages);
}
template <typename A>
void archive(A& a, CommandImage& command) {
  parts(a, command.pid, command.label, command.user, command.arguments, command.terminal, command.input_ended,
        command.pipes);
}
template <typename A>
void archive(A& a, TreeImage& image) {
  parts(a, image.processes, image.descriptions, image.pipes, image.terminals, image.deleted_files, image.shared_memory,
        image.zombies, image.commands);
}

constexpr void check_members() {
  all_members_are_archived<Mapping, 104>();
  all_members_are_archived<ThreadImage, 608>();
  all_members_are_archived<ProcessImage, 2776>();
  all_members_are_archived<ProgramImage, 144>();
  all_members_are_archived<ZombieImage, 20>();
  all_members_are_archived<Description, 224>();
  all_members_are_archived<EpollEntry, 48>();
  all_members_are_archived<EpollState, 24>();
  all_members_are_archived<EventfdState, 16>();
  all_members_are_archived<TimerfdState, 32>();
  all_members_are_archived<SignalfdState, 8>();
  all_members_are_archived<InotifyWatch, 64>();
  all_members_are_archived<InotifyState, 32>();
  all_members_are_archived<SocketState, 272>();
  all_members_are_archived<SocketNode, 80>();
  all_members_are_archived<PipeContents, 80>();
  all_members_are_archived<TerminalImage, 176>();
  all_members_are_archived<FileContents, 64>();
  all_members_are_archived<DeletedFile, 64>();
  all_members_are_archived<SharedMemory, 104>();
  all_members_are_archived<CommandImage, 152>();
  all_members_are_archived<TreeImage, 216>();
  all_members_are_archived<FileLock, 24>();
  all_members_are_archived<ProcessLock, 32>();
  all_members_are_archived<DescriptorSlot, 12>();
  all_members_are_archived<Credentials, 72>();
}

// Indices lead somewhere.
bool is_sound(const TreeImage& image) {
  for (const ProcessImage& process : image.processes) {
    if (process.threads.empty() || !process.mappings || !process.program) return false;
    for (const DescriptorSlot& slot : process.descriptors) {
      if (slot.fd < 0 || slot.description >= image.descriptions.size()) return false;
    }
  }
  for (const Description& description : image.descriptions) {
    if ((description.kind == DescriptionKind::kSocket) != (description.socket != nullptr)) return false;
    if (description.kind == DescriptionKind::kPipe && !description.pipe) return false;
    const auto* epoll = std::get_if<EpollState>(&description.state);
    if (epoll == nullptr) continue;
    for (const EpollEntry& entry : epoll->entries) {
      if (entry.description >= static_cast<std::int64_t>(image.descriptions.size())) return false;
    }
  }
  for (const PipeContents& pipe : image.pipes) {
    if (!pipe.pipe) return false;
  }
  for (const DeletedFile& file : image.deleted_files) {
    if (!file.contents) return false;
  }
  for (const auto& [id, command] : image.commands) {
    if (!command) return false;
  }
  return true;
}

}  // namespace

}  // namespace images

namespace {

// The numbers of pipes that lead out belong to other pipes by now: no inode has one with this bit.
constexpr std::uint64_t kOfAnotherTime = std::uint64_t{1} << 63;

}  // namespace

Result<WrittenImage> write_image(const TreeImage& image, PageFiles& pages) {
  images::check_members();
  images::ImageWriter writer(pages);
  archive(writer, const_cast<TreeImage&>(image));  // a writer changes nothing
  if (writer.error()) return std::move(*writer.error());
  return WrittenImage{writer.take(), std::move(writer.used())};
}

Result<std::shared_ptr<TreeImage>> read_image(const std::string& bytes, const std::string& name,
                                              const ImageSurroundings& around) {
  auto image = std::make_shared<TreeImage>();
  images::ImageReader reader(bytes, around);
  archive(reader, *image);
  if (reader.error()) return std::move(*reader.error());
  if (reader.failed() || !reader.at_end() || !images::is_sound(*image)) {
    return make_error(Code::kDamaged, name + " is damaged: it can't be parsed",
                      "Use another checkpoint; what is damaged is never used.");
  }
  for (Description& description : image->descriptions) {
    if (description.pipe) description.inode = description.pipe->inode;
    if (description.kind == DescriptionKind::kBoundary) description.inode |= kOfAnotherTime;
  }
  for (auto& [id, command] : image->commands) {
    auto renamed = std::make_shared<CommandImage>(*command);
    renamed->pipes.clear();
    for (const auto& [inode, stream] : command->pipes) renamed->pipes[inode | kOfAnotherTime] = stream;
    command = std::move(renamed);
  }
  return image;
}

}  // namespace deltabox
