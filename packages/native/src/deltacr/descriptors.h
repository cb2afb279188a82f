// Open files by value. While tasks run the engine holds no open file description of theirs: a kept duplicate would hide
// the end of a pipe from its reader, keep a port, a lock or a terminal. Inside a pause descriptors are duplicated
// (pidfd_getfd), read out and closed again.
#pragma once

#include <sys/stat.h>

#include <map>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "deltacr/image.h"
#include "deltacr/locks.h"
#include "deltacr/watched_paths.h"

namespace deltabox {

// Where descriptors may lie: the volumes' live mounts, in the order of their indices.
struct VolumeView {
  std::uint64_t mount_id = 0;
  std::uint64_t device = 0;
  std::uint64_t overlay = 0;  // Volume::serial
  std::string path;
  bool changed = false;     // written since it was switched last
  bool sealing = false;     // this capture's checkpoint seals it
  int writable_layer = -1;  // its directory in the store
  int root = -1;            // its root directory
  bool stores_tell = true;  // Volume::ctimes_tell_stores
};

// Identifies the pipes that lead out of the sandbox. The engine adds those it hands to commands.
using BoundaryPipes = std::set<std::uint64_t>;  // inodes of pipefs

class DeletedFileReader;
class SharedMemoryReader;
class SocketReader;
class TerminalReader;
class ProcessRegistry;

class DescriptorReader {
 public:
  DescriptorReader() = default;
  // `scratch`: a pipe to copy what waits in others.
  static Result<DescriptorReader> create(int proc_fd, int self_fd_dir, std::pair<UniqueFd, UniqueFd> scratch);
  // Whom to tell of descriptors of deleted files; outlives this.
  void report_deleted_to(DeletedFileReader* reader) { deleted_files_ = reader; }
  // The same for memory without a file (memfd).
  void report_memory_to(SharedMemoryReader* reader) { shared_memory_ = reader; }
  void report_sockets_to(SocketReader* reader) { sockets_ = reader; }
  // Starts a capture: volumes as they are mounted now; whom to tell of terminals.
  void begin(std::vector<VolumeView> volumes, const BoundaryPipes* boundary, TerminalReader* terminals,
             TreeImage* image);
  // Of a process, whose image has the numbers and flags of its slots already.
  struct Table {
    HostTid pid;
    int pidfd = -1;
    ProcessImage* process = nullptr;
  };
  // Fills in the descriptions of all slots.
  Result<void> read_tables(const std::vector<Table>& tables, std::vector<Notice>& warnings);
  // Gives the programs that had an inotify at the last capture a moment to read their events, which a switch of volumes
  // would lose. Tasks run.
  void let_watchers_read(ProcessRegistry& registry) const;
  // Which descriptions the epolls watch; once all processes have been read.
  Result<void> find_watched();
  // The contents of all pipes met; leaves them as they are.
  Result<void> read_pipe_contents();

 private:
  struct Met {
    HostTid pid;
    int fd = -1;
    std::uint32_t description = 0;
  };
  struct Watcher {
    Incarnation process = 0;
    int fd = -1;
  };
  struct MetPipe {
    std::shared_ptr<const PipeHandle> handle;
    UniqueFd duplicate;
  };
  Result<std::int64_t> description_of(const Met& epoll, const EpollEntry& entry) const;
  void find_watched_paths(const ProcessImage& process, int fd, InotifyState& inotify);
  void warn_of_inotify(int fd, const InotifyState& inotify, const ProcessImage& process,
                       std::vector<Notice>& warnings) const;
  Result<void> warn_of_limits(int fd, const Description& description, const ProcessImage& process,
                              std::vector<Notice>& warnings) const;
  struct Slot {
    const Table* table = nullptr;
    std::size_t index = 0;
  };
  // What one look at a slot tells, before anything is made of it.
  struct Seen {
    UniqueFd duplicate;
    struct statx info {};
    int status_flags = 0;
    std::string link;  // empty: longer than a path may be
    std::int64_t offset = 0;
    std::vector<FileLock> locks;
    mode_t kind() const { return info.stx_mode & S_IFMT; }
    bool is_plain() const { return kind() == S_IFREG || kind() == S_IFDIR; }
  };
  Result<Seen> look_at(const Slot& slot) const;
  Result<void> read_slot(const Slot& slot, Seen seen, std::vector<Notice>& warnings);
  void add_locks(int fd, Seen& seen, Description& description, ProcessImage& process);
  Result<void> read_scratch(std::size_t size_bytes, PipeContents& contents);
  Result<Description> describe(const Seen& seen);
  Result<void> describe_fifo(const Seen& seen, Description& description) const;
  Result<std::shared_ptr<const PipeHandle>> handle_of(const UniqueFd& duplicate, const Description& description);

  int proc_fd_ = -1;
  int self_fd_dir_ = -1;
  DeletedFileReader* deleted_files_ = nullptr;
  SharedMemoryReader* shared_memory_ = nullptr;
  SocketReader* sockets_ = nullptr;
  std::uint64_t pipe_device_ = 0;
  UniqueFd scratch_read_;  // pipe contents are tee'd here
  UniqueFd scratch_write_;
  // By device, inode, and whether it has a descriptor.
  std::map<std::tuple<std::uint64_t, std::uint64_t, bool>, std::weak_ptr<const PipeHandle>> handles_;
  WatchedPaths watched_paths_;
  std::vector<Watcher> watchers_;  // inotifys of the last capture
  // of the capture that is under way
  std::vector<VolumeView> volumes_;
  const BoundaryPipes* boundary_ = nullptr;
  TerminalReader* terminals_ = nullptr;
  TreeImage* image_ = nullptr;
  std::multimap<std::pair<std::uint64_t, std::uint64_t>, Met>
      met_;  // by device and inode, then as compare_objects has them
  std::vector<MetPipe> met_pipes_;
  std::set<std::tuple<Incarnation, std::uint64_t, std::uint64_t>> files_with_locks_;  // whose POSIX locks are known
};

// Opens another descriptor of the file behind `fd`, through its magic link: a new description of the same inode.
Result<UniqueFd> reopen(int self_fd_dir, int fd, int flags);

// Empties the pipe behind the O_PATH descriptor and fills it with what it held.
Result<void> replace_pipe_contents(int self_fd_dir, int path_fd, const PipeContents& wanted);
// Fills an empty one.
Result<void> fill_pipe(int write_end, const PipeContents& wanted);
Result<void> set_pipe_capacity(int self_fd_dir, int path_fd, int capacity_bytes);

}  // namespace deltabox
