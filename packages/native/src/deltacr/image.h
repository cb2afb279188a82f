// The process state of one checkpoint, as plain data. Images are immutable once committed and share what did not
// change: mappings by pointer, pages by page map, pipes by handle.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <termios.h>

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/unique_fd.h"
#include "deltacr/attributes.h"
#include "deltacr/credentials.h"
#include "deltacr/kinds/socket.h"
#include "deltacr/kinds/state.h"
#include "deltacr/posix_timers.h"
#include "deltacr/stored_files.h"
#include "pagestore/page_map.h"
#include "tracee/ptrace.h"

namespace deltabox {

// Names one life of one process: pids are reused, incarnations never.
using Incarnation = std::uint64_t;
// Names one object of shared memory, for as long as checkpoints know it: one that a rollback makes anew keeps its id.
using SharedObjectId = std::uint64_t;

struct Mapping {
  AddressRange range;
  int protection = 0;  // PROT_*
  bool shared = false;
  std::uint64_t file_offset = 0;
  std::uint64_t device = 0;  // makedev(); 0 without a file
  std::uint64_t inode = 0;
  std::string name;  // path, "[heap]", "[stack]", … or empty
  // Which overlay the file is on (Volume::serial), where it was on a volume when it was first seen. Device numbers are
  // given to later overlays again, and inode numbers to later files.
  std::uint64_t overlay = 0;
  // Of shared mappings:
  int volume = -1;                   // index of the volume that the file lies on
  bool in_writable_layer = false;    // others may write the file; mapped anew, it must be the inode that they write
  SharedObjectId shared_object = 0;  // memory that no volume has (deltacr/shared_memory.h)

  bool operator==(const Mapping&) const = default;
  // The first System V segment has inode 0.
  bool has_file() const { return inode != 0 || device != 0; }
  bool is_system_v() const { return shared_object != 0 && name.starts_with("/SYSV"); }
  bool is_deleted() const { return has_file() && name.ends_with(" (deleted)"); }
  // A rollback that switches these volumes has to map it anew; a deleted file's always, whose file is made anew.
  // So is memory that is made anew (`renewed`).
  bool moves_with(const std::set<int>& switched, const std::set<SharedObjectId>& renewed) const {
    return shared && ((volume >= 0 && (is_deleted() || switched.contains(volume))) || renewed.contains(shared_object));
  }
  // Memory whose contents belong to the process alone: what page maps hold.
  bool is_private_memory() const { return !shared && !is_kernel_provided(); }
  bool is_kernel_provided() const { return name.starts_with("[v"); }  // [vdso], [vvar], [vvar_vclock], [vsyscall]
  // The same object at the same place of it, whatever the protection.
  // A volume shows a file with another device after each switch, so there the path tells.
  bool same_backing(const Mapping& other) const {
    const bool same_object = volume >= 0 && other.volume >= 0 ? volume == other.volume && name == other.name
                             : shared_object != 0
                                 ? shared_object == other.shared_object
                                 : device == other.device && inode == other.inode && overlay == other.overlay;
    return shared == other.shared && same_object && has_file() == other.has_file() &&
           (!has_file() || file_offset - range.start == other.file_offset - other.range.start);
  }
};
using MappingList = std::vector<Mapping>;

// As rt_sigaction(2) of the kernel has it, not libc's struct.
struct KernelSigaction {
  std::uint64_t handler = 0;
  std::uint64_t flags = 0;
  std::uint64_t restorer = 0;
  std::uint64_t mask = 0;
  bool operator==(const KernelSigaction&) const = default;
};
static_assert(sizeof(KernelSigaction) == 32);

struct KernelAltStack {
  std::uint64_t base = 0;
  std::int32_t flags = 0;
  std::int32_t padding = 0;
  std::uint64_t size_bytes = 0;
};
static_assert(sizeof(KernelAltStack) == 24);

inline constexpr int kSignals = 64;
inline constexpr int kLimits = 16;
inline constexpr std::size_t kTaskNameBytes = 16;

// Addresses that a thread gave the kernel, which writes there when the thread runs or ends. A stale one faults.
struct KernelPointers {
  abi::RseqConfiguration rseq{};  // address 0: not registered
  std::uint64_t robust_list = 0;  // set_robust_list(2)
  std::uint64_t robust_list_bytes = 0;
  std::uint64_t clear_child_tid = 0;  // set_tid_address(2)
};

struct ThreadImage {
  HostTid tid;       // of this life of it
  InsidePid inside;  // rollbacks find the thread by it; its group's incarnation guards against reuse
  ptrace::Registers registers{};
  std::int64_t timed_call = -1;  // the call behind restart_syscall(2), where registers stand in one
  ptrace::ExtendedState extended_state;
  ptrace::SignalMask signal_mask = 0;
  KernelAltStack alternate_stack;
  KernelPointers kernel_pointers;
  std::array<char, kTaskNameBytes> name{};
  ThreadAttributes attributes;
  Capabilities capabilities;
  std::vector<siginfo_t> pending;  // queued to this thread
};

enum class LockKind { kFlock, kPosix, kOpenFile };
struct FileLock {
  LockKind kind = LockKind::kFlock;
  bool exclusive = false;
  std::int64_t start = 0;
  std::int64_t length = 0;  // 0: to the end of the file
  bool operator==(const FileLock&) const = default;
};
// A POSIX lock, which belongs to a process and a file; `fd` is one of its descriptors of that file.
struct ProcessLock {
  int fd = -1;
  FileLock lock;
  bool operator==(const ProcessLock&) const = default;
};

struct DescriptorSlot {
  int fd = -1;
  bool close_on_exec = false;
  std::uint32_t description = 0;  // index into TreeImage::descriptions
};

// What execve(2) set up and a process made anew has to be given again.
struct ProgramImage {
  std::string path;  // of the executable, inside
  std::uint64_t start_code = 0, end_code = 0, start_data = 0, end_data = 0;
  std::uint64_t start_break = 0, start_stack = 0;
  AddressRange arguments, environment;
  std::string auxiliary_vector;  // bytes of /proc/PID/auxv
};

struct ZombieImage {
  InsidePid pid;
  InsidePid parent;
  std::int32_t session = 0;
  std::int32_t process_group = 0;
  int exit_status = 0;  // as of wait4(2)
  bool operator==(const ZombieImage&) const = default;
};

struct ProcessImage {
  Incarnation incarnation = 0;
  std::uint64_t address_space = 0;  // counts the programs that the process executed, as far as captures saw them
  HostTid host_pid;
  InsidePid pid;
  InsidePid parent;
  std::vector<ThreadImage> threads;  // leader first
  std::shared_ptr<const ProgramImage> program;
  std::shared_ptr<const MappingList> mappings;
  PageMap pages;
  RemoteAddress program_break;
  std::array<KernelSigaction, kSignals> actions{};  // by signal - 1
  std::array<itimerval, 3> timers{};
  std::vector<PosixTimer> posix_timers;
  std::array<rlimit, kLimits> limits{};
  std::int32_t process_group = 0;
  std::int32_t session = 0;
  std::uint32_t umask = 0;
  Credentials credentials;
  ProcessAttributes attributes;
  std::string working_dir;
  int working_dir_volume = -1;  // index of the volume it lies on, -1 for the skeleton
  bool working_dir_deleted = false;
  std::vector<siginfo_t> pending;  // queued to the group
  std::vector<DescriptorSlot> descriptors;
  std::vector<ProcessLock> locks;
  bool group_stopped = false;

  const ThreadImage* find_thread(InsidePid inside) const;
};

// Which pipe it is, by address; and an O_PATH descriptor of it: neither reader nor writer (the end of the data arrives
// when the tasks' ends close), and yet it keeps the inode, whose ends can be opened again through it. None of a FIFO
// that is opened again by its path.
struct PipeHandle {
  std::uint64_t inode = 0;
  UniqueFd path_fd;
};

enum class DescriptionKind {
  kFile,      // regular file or directory
  kDevice,    // /dev/null and its like
  kPipe,      // inside the sandbox; FIFOs too
  kObject,    // eventfd and its like: nothing but its state, which the image has
  kMemory,    // memfd
  kSocket,    // unix, TCP, UDP
  kTerminal,  // either end of a pseudo-terminal, or /dev/tty
  kBoundary,  // leads out (a command's standard streams); never rewound
  kOther,     // kept when unchanged, reported otherwise
};

// One open file description, shared by the slots that name it.
struct Description {
  DescriptionKind kind = DescriptionKind::kOther;
  std::string type;  // "file", "directory", "socket", "eventfd", … for reports
  int status_flags = 0;
  std::int64_t offset = 0;
  std::string path;  // inside
  int volume = -1;   // index of the volume it lies on
  bool deleted = false;
  bool hung_up = false;  // a FIFO's end that was opened for reading alone: a writer has been there and is gone
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  std::shared_ptr<const PipeHandle> pipe;  // of kPipe
  ObjectState state;                       // of kObject
  SharedObjectId shared_object = 0;
  std::shared_ptr<const SocketState> socket;  // of kSocket
  int terminal = -1;                          // of kTerminal: N of /dev/pts/N; -1: its other end is closed for good
  std::vector<FileLock> locks;                // of this description: flock and open-file-description locks

  // A file whose contents the image has (TreeImage::deleted_files).
  bool is_deleted_file() const { return deleted && volume >= 0 && type == "file"; }
  bool is_fifo() const { return kind == DescriptionKind::kPipe && type == "fifo"; }
  // Others meet it there, on whatever overlay is in place.
  bool is_fifo_at_path() const { return is_fifo() && volume >= 0; }
  // The same kernel object, opened the same way: flags that fcntl can change, and the offset, may differ.
  bool same_object(const Description& other) const;
};

struct PipeContents {
  std::shared_ptr<const PipeHandle> pipe;
  std::string bytes;
  // Those of O_DIRECT, of which a read never gets more than one; what follows them in `bytes` is in none.
  std::vector<std::uint32_t> packet_bytes;
  int capacity_bytes = 0;

  bool holds_same(const PipeContents& other) const {
    return bytes == other.bytes && packet_bytes == other.packet_bytes;
  }
};

// A pseudo-terminal (deltacr/terminals.h).
struct TerminalImage {
  int number = 0;                     // N of /dev/pts/N
  std::uint64_t command = 0;          // id of the command for which the engine holds the master end; 0: a task holds it
  std::int32_t session = 0;           // inside, whose controlling terminal it is; 0: nobody's
  std::int32_t foreground_group = 0;  // inside; 0: nobody is in it
  termios modes{};
  winsize size{};
  bool locked = false;                       // its slave end can't be opened yet
  bool packets = false;                      // TIOCPKT
  bool has_slave = false;                    // a task has its slave end open
  std::uint32_t uid = 0, gid = 0, mode = 0;  // of /dev/pts/N; mode 0: not known
  std::string input;                         // written to the master end, read by nobody
  std::string output;                        // written by programs, and not read from a master end that a task holds
};

// A file without a name, by value.
struct FileContents {
  std::shared_ptr<const StoredFile> file;  // never written again
  std::uint32_t mode = 0;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  timespec times[2] = {};  // of access and modification
};

struct DeletedFile {
  std::string volume_path;
  std::uint64_t device = 0;  // as descriptors and mappings showed it
  std::uint64_t inode = 0;
  std::shared_ptr<const FileContents> contents;
};

// Memory that processes share, by value.
struct SharedMemory {
  SharedObjectId id = 0;
  std::string name;  // as mappings and descriptors show it
  bool system_v = false;
  bool has_descriptor = false;  // a task has it open
  // Of System V: its id and key, whose it is, and whether it goes when nobody is attached any more (IPC_RMID).
  int segment = -1;
  int key = 0;
  std::uint32_t uid = 0;
  bool is_removed = false;
  std::uint64_t size_bytes = 0;
  std::uint32_t mode = 0700;
  int seals = 0;  // F_SEAL_*
  PageMap pages;  // by page of the object; what is not there is zero
};

// A command that a client started and that runs: as much as another engine needs to go on with it.
struct CommandImage {
  InsidePid pid;  // of its first process
  std::string label;
  std::string user;
  std::vector<std::string> arguments;
  bool terminal = false;
  bool input_ended = false;            // our end of its standard input was closed
  std::map<std::uint64_t, int> pipes;  // boundary pipes by inode; 1, 2: output, 0: input
};
using RunningCommands = std::map<std::uint64_t, std::shared_ptr<const CommandImage>>;  // by id

struct TreeImage {
  std::vector<ProcessImage> processes;  // parents before children
  std::vector<Description> descriptions;
  std::vector<PipeContents> pipes;
  std::vector<TerminalImage> terminals;
  std::vector<DeletedFile> deleted_files;
  std::vector<SharedMemory> shared_memory;
  std::vector<ZombieImage> zombies;
  RunningCommands commands;

  const ProcessImage* find(Incarnation incarnation) const;
  const ProcessImage* find_by_pid(InsidePid pid) const;
  // What a slot of the process holds; null when it is closed.
  const Description* description_at(const ProcessImage& process, int fd) const;
  const DeletedFile* find_deleted(std::uint64_t device, std::uint64_t inode) const;
  const SharedMemory* find_shared(SharedObjectId id) const;
  const TerminalImage* find_terminal(int number) const;
  // The controlling terminal of a session.
  const TerminalImage* terminal_of(std::int32_t session) const;
};

}  // namespace deltabox
