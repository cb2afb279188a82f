// The lower limits of a pause, measured with bare system calls on the processes that a checkpoint freezes.
//
// Usage: deltabox-floor VOLUMES [PID…]   (PIDs as this process sees them; VOLUMES: how many volumes a checkpoint
// switches) Each line on stdin is answered by one line of JSON, times in microseconds:
//   freezeUs    PTRACE_SEIZE and PTRACE_INTERRUPT of all threads, then waitpid for each
//   mappingsUs  PROCMAP_QUERY over all mappings
//   scanUs      one read-only PAGEMAP_SCAN of the address space for written pages
//   copyUs      process_vm_readv of the pages that are written and present, into memory that was touched before
//   continueUs  PTRACE_DETACH of all threads
//   switchUs    move_mount beneath and away of VOLUMES mounts, in a namespace of its own
//   rootUs      what makes the roots of VOLUMES fresh layers look like the old ones: fstat of both, mode and times
// What a checkpoint keeps open or knows beforehand (descriptors of /proc, thread lists, which pages) is found before
// the clock starts. Nothing is changed: pages stay as the engine protected them.
#include <fcntl.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "sys/kernel_abi.h"

namespace abi = deltabox::abi;

namespace {

constexpr std::uint64_t kPageBytes = 4096;
constexpr std::uint64_t kAddressSpaceEnd = 0x7fff'ffff'f000;  // of user space with four page table levels
constexpr std::size_t kMaxCopiedPages = 65'536;               // 256 MiB; more is no small delta
constexpr std::size_t kMaxVolumes = 64;

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "deltabox-floor: %s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

double now_us() {
  timespec time{};
  ::clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_nsec) / 1e3;
}

class Lap {
 public:
  double us() {
    const double now = now_us();
    const double lap = now - last_;
    last_ = now;
    return lap;
  }

 private:
  double last_ = now_us();
};

struct Target {
  pid_t pid = 0;
  int maps = -1;
  int pagemap = -1;
};

struct Floors {
  double freeze_us = 0;
  double mappings_us = 0;
  double scan_us = 0;
  double copy_us = 0;
  double continue_us = 0;
  double switch_us = 0;
  double root_us = 0;
  std::size_t threads = 0;
  std::size_t mappings = 0;
  std::size_t pages = 0;
};

int open_proc(pid_t pid, const char* name) {
  const std::string path = "/proc/" + std::to_string(pid) + "/" + name;
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail(path.c_str());
  return fd;
}

std::vector<pid_t> threads_of(const std::vector<Target>& targets) {
  std::vector<pid_t> threads;
  for (const Target& target : targets) {
    for (const auto& entry : std::filesystem::directory_iterator("/proc/" + std::to_string(target.pid) + "/task")) {
      threads.push_back(static_cast<pid_t>(std::stoi(entry.path().filename())));
    }
  }
  return threads;
}

void freeze(const std::vector<pid_t>& threads) {
  for (const pid_t tid : threads) {
    if (::ptrace(PTRACE_SEIZE, tid, nullptr, nullptr) != 0) fail("PTRACE_SEIZE");
    if (::ptrace(PTRACE_INTERRUPT, tid, nullptr, nullptr) != 0) fail("PTRACE_INTERRUPT");
  }
  for (const pid_t tid : threads) {
    int status = 0;
    if (::waitpid(tid, &status, __WALL) != tid || !WIFSTOPPED(status)) fail("waitpid");
    if (status >> 16 != PTRACE_EVENT_STOP) fail("a signal came in between");
  }
}

std::size_t list_mappings(const Target& target) {
  std::size_t count = 0;
  abi::ProcmapQuery query{};
  query.size = sizeof query;
  query.query_flags = abi::kProcmapCoveringOrNext;
  while (::ioctl(target.maps, abi::kProcmapQuery, &query) == 0) {
    ++count;
    const std::uint64_t end = query.vma_end;
    query = {};
    query.size = sizeof query;
    query.query_flags = abi::kProcmapCoveringOrNext;
    query.query_addr = end;
  }
  if (errno != ENOENT) fail("PROCMAP_QUERY");
  return count;
}

// Calls visit(region) for every region that matches. The kernel's end of the walk can lie before the last region, so
// the larger of the two counts.
template <typename Visit>
void scan(const Target& target, std::uint64_t required, std::uint64_t inverted, Visit visit) {
  static std::vector<abi::PageRegion> regions(4096);
  abi::PmScanArg argument{};
  argument.size = sizeof argument;
  argument.end = kAddressSpaceEnd;
  argument.vec = reinterpret_cast<std::uint64_t>(regions.data());
  argument.vec_len = regions.size();
  argument.category_mask = required;
  argument.category_inverted = inverted;
  argument.return_mask = abi::kPageIsWritten;
  for (;;) {
    const int count = ::ioctl(target.pagemap, abi::kPagemapScan, &argument);
    if (count < 0) fail("PAGEMAP_SCAN");
    for (int index = 0; index < count; ++index) visit(regions[static_cast<std::size_t>(index)]);
    if (static_cast<std::size_t>(count) < regions.size()) return;
    argument.start = std::max(argument.walk_end, regions.back().end);
  }
}

std::vector<iovec> written_pages(const Target& target) {
  std::vector<iovec> runs;
  scan(target, abi::kPageIsWritten | abi::kPageIsPresent | abi::kPageIsFile, abi::kPageIsFile,
       [&](const abi::PageRegion& region) {
         runs.push_back({reinterpret_cast<void*>(region.start), region.end - region.start});
       });
  return runs;
}

// Reads all runs of one process into `buffer`, IOV_MAX at a time; the bytes that were read.
std::size_t copy(pid_t pid, const std::vector<iovec>& runs, std::byte* buffer) {
  std::size_t bytes = 0;
  for (std::size_t first = 0; first < runs.size(); first += IOV_MAX) {
    const std::size_t count = std::min<std::size_t>(runs.size() - first, IOV_MAX);
    std::size_t expected = 0;
    for (std::size_t index = 0; index < count; ++index) expected += runs[first + index].iov_len;
    const iovec local{buffer + bytes, expected};
    if (::process_vm_readv(pid, &local, 1, &runs[first], count, 0) != static_cast<ssize_t>(expected)) {
      fail("process_vm_readv");
    }
    bytes += expected;
  }
  return bytes;
}

int make_mount() {
  const int context = ::fsopen("tmpfs", FSOPEN_CLOEXEC);
  if (context < 0 || ::fsconfig(context, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) fail("fsopen");
  const int mount = ::fsmount(context, FSMOUNT_CLOEXEC, 0);
  if (mount < 0) fail("fsmount");
  ::close(context);
  return mount;
}

void move_mount_or_fail(int mount, const char* path, unsigned flags) {
  if (::move_mount(mount, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH | flags) != 0) fail("move_mount");
}

void copy_root_attributes(int from, int to) {
  struct stat old_root {};
  struct stat new_root {};
  if (::fstatat(from, "", &old_root, AT_EMPTY_PATH) != 0 || ::fstatat(to, "", &new_root, AT_EMPTY_PATH) != 0) {
    fail("fstatat");
  }
  const timespec times[2] = {old_root.st_atim, old_root.st_mtim};
  if (::fchmodat(to, ".", old_root.st_mode & 07777, 0) != 0 || ::utimensat(to, ".", times, 0) != 0) fail("utimensat");
}

void write_own_proc(const char* name, const std::string& text) {
  const std::string path = std::string("/proc/self/") + name;
  const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0 || ::write(fd, text.data(), text.size()) != static_cast<ssize_t>(text.size())) fail(path.c_str());
  ::close(fd);
}

void unshare_as_root_inside() {
  const std::string uid = std::to_string(::geteuid());
  const std::string gid = std::to_string(::getegid());
  if (::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) fail("unshare");
  write_own_proc("setgroups", "deny");
  write_own_proc("uid_map", "0 " + uid + " 1");
  write_own_proc("gid_map", "0 " + gid + " 1");
}

// Switches mounts in namespaces of its own: a byte in, the time of one switch out.
class Switcher {
 public:
  explicit Switcher(std::size_t volumes) {
    int ask[2];
    int answer[2];
    if (::pipe2(ask, O_CLOEXEC) != 0 || ::pipe2(answer, O_CLOEXEC) != 0) fail("pipe2");
    const pid_t child = ::fork();
    if (child < 0) fail("fork");
    if (child == 0) {
      ::close(ask[1]);
      serve(ask[0], answer[1], volumes);
    }
    ::close(ask[0]);
    ::close(answer[1]);
    ask_ = ask[1];
    answer_ = answer[0];
  }
  struct Times {
    double switch_us = 0;
    double root_us = 0;
  };
  Times measure() const {
    Times times;
    if (::write(ask_, "s", 1) != 1 || ::read(answer_, &times, sizeof times) != static_cast<ssize_t>(sizeof times)) {
      fail("switch");
    }
    return times;
  }

 private:
  [[noreturn]] static void serve(int ask, int answer, std::size_t volumes) {
    if (::geteuid() == 0) {
      if (::unshare(CLONE_NEWNS) != 0) fail("unshare");
    } else {
      unshare_as_root_inside();
    }
    if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) fail("mount");
    // The namespace dies with this process, so any directory will do as a place.
    move_mount_or_fail(make_mount(), "/mnt", 0);
    if (::chdir("/mnt") != 0 || ::mkdir("parking", 0700) != 0) fail("mkdir");
    move_mount_or_fail(make_mount(), "parking", 0);
    std::vector<std::string> places;
    std::vector<int> tops;
    for (std::size_t index = 0; index < volumes; ++index) {
      places.push_back("volume-" + std::to_string(index));
      if (::mkdir(places.back().c_str(), 0700) != 0) fail("mkdir");
      tops.push_back(make_mount());
      move_mount_or_fail(tops.back(), places.back().c_str(), 0);
    }
    char byte;
    while (::read(ask, &byte, 1) == 1) {
      std::vector<int> next;
      for (std::size_t index = 0; index < volumes; ++index) next.push_back(make_mount());
      Times times;
      Lap lap;
      for (std::size_t index = 0; index < volumes; ++index) copy_root_attributes(tops[index], next[index]);
      times.root_us = lap.us();
      for (std::size_t index = 0; index < volumes; ++index) {
        move_mount_or_fail(next[index], places[index].c_str(), abi::kMoveMountBeneath);
        move_mount_or_fail(tops[index], "parking", abi::kMoveMountBeneath);
      }
      times.switch_us = lap.us();
      for (std::size_t index = 0; index < volumes; ++index) {
        const std::string parked = "/proc/self/fd/" + std::to_string(tops[index]);
        if (::umount2(parked.c_str(), MNT_DETACH) != 0) fail("umount2");
        ::close(tops[index]);
        tops[index] = next[index];
      }
      if (::write(answer, &times, sizeof times) != static_cast<ssize_t>(sizeof times)) break;
    }
    std::_Exit(0);
  }

  int ask_ = -1;
  int answer_ = -1;
};

Floors measure(const std::vector<Target>& targets, const Switcher& switcher, std::byte* buffer) {
  Floors floors;
  const std::vector<pid_t> threads = threads_of(targets);
  floors.threads = threads.size();
  Lap lap;
  freeze(threads);
  floors.freeze_us = lap.us();
  for (const Target& target : targets) floors.mappings += list_mappings(target);
  floors.mappings_us = lap.us();
  for (const Target& target : targets) scan(target, abi::kPageIsWritten, 0, [](const abi::PageRegion&) {});
  floors.scan_us = lap.us();
  for (const Target& target : targets) {
    const std::vector<iovec> runs = written_pages(target);
    std::size_t bytes = 0;
    for (const iovec& run : runs) bytes += run.iov_len;
    if (bytes > kMaxCopiedPages * kPageBytes) {
      errno = E2BIG;
      fail("the written pages");
    }
    lap.us();
    floors.pages += copy(target.pid, runs, buffer) / kPageBytes;
    floors.copy_us += lap.us();
  }
  lap.us();
  for (const pid_t tid : threads) {
    if (::ptrace(PTRACE_DETACH, tid, nullptr, nullptr) != 0) fail("PTRACE_DETACH");
  }
  floors.continue_us = lap.us();
  const Switcher::Times times = switcher.measure();
  floors.switch_us = times.switch_us;
  floors.root_us = times.root_us;
  return floors;
}

void print(const Floors& floors) {
  std::printf(
      "{\"freezeUs\":%.3f,\"mappingsUs\":%.3f,\"scanUs\":%.3f,\"copyUs\":%.3f,\"switchUs\":%.3f,\"rootUs\":%.3f,"
      "\"continueUs\":%.3f,\"threads\":%zu,\"mappings\":%zu,\"pages\":%zu}\n",
      floors.freeze_us, floors.mappings_us, floors.scan_us, floors.copy_us, floors.switch_us, floors.root_us,
      floors.continue_us, floors.threads, floors.mappings, floors.pages);
  std::fflush(stdout);
}

}  // namespace

int main(int count, char** arguments) {
  const std::size_t volumes = count > 1 ? std::strtoul(arguments[1], nullptr, 10) : 0;
  if (count < 2 || volumes == 0 || volumes > kMaxVolumes) {
    std::fprintf(stderr, "usage: deltabox-floor VOLUMES [PID...]\n");
    return 2;
  }
  const Switcher switcher(volumes);
  std::vector<Target> targets;
  for (int index = 2; index < count; ++index) {
    const pid_t pid = static_cast<pid_t>(std::strtol(arguments[index], nullptr, 10));
    targets.push_back({pid, open_proc(pid, "maps"), open_proc(pid, "pagemap")});
  }
  const auto buffer = std::make_unique<std::byte[]>(kMaxCopiedPages * kPageBytes);  // zeroed, so touched
  char line[64];
  while (std::fgets(line, sizeof line, stdin) != nullptr) print(measure(targets, switcher, buffer.get()));
  return 0;
}
