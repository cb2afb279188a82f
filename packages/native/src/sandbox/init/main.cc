// Pid 1 of a sandbox: spawns commands for the engine, reaps, and ends everything when the engine is gone.
//
// It is freestanding (no libc): nothing runs before start(), it registers no rseq area, and it stays small enough to be
// audited in one sitting. It holds no descriptor but /dev/null in the standard slots, its control socket, its signalfd
// and, during a spawn, the child's.
//
// States: waiting for kSetUp → serving. It leaves only by the end of the control socket, which means that the engine
// died: then it kills every task of the pid namespace and exits, and the kernel removes namespaces and mounts.
#include <asm/ioctls.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/prctl.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "sandbox/init/filter.h"
#include "sandbox/init/init_abi.h"
#include "sandbox/init/raw_syscalls.h"

using namespace deltabox;
using init_abi::NextPidRequest;
using init_abi::Reply;
using init_abi::SetUpRequest;
using init_abi::SocketRequest;
using init_abi::SpawnHeader;
using init_abi::Stage;
using init_abi::Type;

extern "C" void* memset(void* target, int value, std::size_t size) {
  auto* bytes = static_cast<volatile unsigned char*>(target);
  for (std::size_t index = 0; index < size; ++index) bytes[index] = static_cast<unsigned char>(value);
  return target;
}
extern "C" void* memcpy(void* target, const void* source, std::size_t size) {
  auto* to = static_cast<volatile unsigned char*>(target);
  const auto* from = static_cast<const unsigned char*>(source);
  for (std::size_t index = 0; index < size; ++index) to[index] = from[index];
  return target;
}

namespace {

constexpr std::uint64_t bit(int capability) { return 1ull << capability; }

// What a root user inside needs to own its files and its users. Left out is all that reaches beyond the sandbox or
// could break its rules: CAP_SYS_ADMIN, CAP_SYS_PTRACE (init keeps it, so no task has a superset of init's capabilities
// and may take init over), CAP_SYS_RESOURCE (would lift the namespace limits below), CAP_NET_ADMIN, CAP_MKNOD,
// CAP_SYS_CHROOT, …
constexpr std::uint64_t kTaskCapabilities = bit(CAP_CHOWN) | bit(CAP_DAC_OVERRIDE) | bit(CAP_FOWNER) | bit(CAP_FSETID) |
                                            bit(CAP_KILL) | bit(CAP_SETGID) | bit(CAP_SETUID) | bit(CAP_SETPCAP) |
                                            bit(CAP_NET_BIND_SERVICE) | bit(CAP_NET_RAW) | bit(CAP_SETFCAP);
constexpr int kLastCapability = 40;
constexpr unsigned long kSigchldMask = 1ul << (SIGCHLD - 1);

alignas(16) char message[init_abi::kMaxMessageBytes];
const char* strings[init_abi::kMaxStrings + 2];

[[noreturn]] void leave(int status) {
  for (;;) raw::call(SYS_exit_group, status);
}

void send_reply(const Reply& reply, int child_pid) {
  iovec part{const_cast<Reply*>(&reply), sizeof reply};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(ucred))];
  memset(control, 0, sizeof control);
  msghdr packet;
  memset(&packet, 0, sizeof packet);
  packet.msg_iov = &part;
  packet.msg_iovlen = 1;
  if (child_pid > 0) {
    // The kernel translates the pid into the engine's namespace; naming another pid than one's own takes CAP_SYS_ADMIN
    // over the pid namespace, which init has.
    packet.msg_control = control;
    packet.msg_controllen = sizeof control;
    auto* header = reinterpret_cast<cmsghdr*>(control);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_CREDENTIALS;
    header->cmsg_len = CMSG_LEN(sizeof(ucred));
    auto* credentials = reinterpret_cast<ucred*>(CMSG_DATA(header));
    credentials->pid = child_pid;
    credentials->uid = 0;
    credentials->gid = 0;
  }
  raw::call(SYS_sendmsg, init_abi::kControlFd, raw::address(&packet), MSG_NOSIGNAL);
}

void send_failure(Stage stage, long result) {
  send_reply(Reply{Type::kFailed, 0, static_cast<std::int32_t>(-result), stage}, 0);
}

// A reply with a descriptor, which is the engine's alone from then on.
void hand_over(Type type, long fd) {
  Reply reply{type, 0, 0, Stage::kNone};
  iovec part{&reply, sizeof reply};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  memset(control, 0, sizeof control);
  msghdr packet;
  memset(&packet, 0, sizeof packet);
  packet.msg_iov = &part;
  packet.msg_iovlen = 1;
  packet.msg_control = control;
  packet.msg_controllen = sizeof control;
  auto* header = reinterpret_cast<cmsghdr*>(control);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  const int passed = static_cast<int>(fd);
  memcpy(CMSG_DATA(header), &passed, sizeof passed);
  raw::call(SYS_sendmsg, init_abi::kControlFd, raw::address(&packet), MSG_NOSIGNAL);
  raw::call(SYS_close, fd);
}

long write_sysctl_zero(const char* path) {
  const long fd = raw::call(SYS_openat, AT_FDCWD, raw::address(path), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return fd;
  const long written = raw::call(SYS_write, fd, raw::address("0"), 1);
  raw::call(SYS_close, fd);
  return written < 0 ? written : 0;
}

long bring_loopback_up() {
  const long fd = raw::call(SYS_socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return fd;
  ifreq request;
  memset(&request, 0, sizeof request);
  request.ifr_name[0] = 'l';
  request.ifr_name[1] = 'o';
  request.ifr_flags = IFF_UP;
  const long result = raw::call(SYS_ioctl, fd, 0x8914 /* SIOCSIFFLAGS */, raw::address(&request));
  raw::call(SYS_close, fd);
  return result;
}

struct Failure {
  Stage stage = Stage::kNone;
  long result = 0;
};

long set_limit(int resource, std::uint64_t value) {
  if (value == 0) return 0;
  const rlimit limit{value, value};
  return raw::call(SYS_prlimit64, 0, resource, raw::address(&limit), 0);
}

long install(const sock_filter* code, std::size_t size, unsigned flags) {
  const sock_fprog program{static_cast<unsigned short>(size), const_cast<sock_filter*>(code)};
  return raw::call(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, raw::address(&program));
}

// Installs the filter; `listener` stays negative where it has none. A task whose call was received waits
// on until it is answered, whatever signals come (WAIT_KILLABLE_RECV, 5.19): a call that was carried out must not begin
// again.
long install_filter(long& listener) {
  listener = install(filter::kProgram.code, filter::kProgram.size,
                     SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV);
  if (listener >= 0) return 0;
  // EBUSY: a filter around the sandbox has a listener already, and the kernel allows one.
  return install(filter::kProgramWithoutListener.code, filter::kProgramWithoutListener.size, 0);
}

Failure set_up(const SetUpRequest& request, long& listener) {
  static constexpr char kHostname[] = "deltabox";
  long result = raw::call(SYS_sethostname, raw::address(kHostname), sizeof kHostname - 1);
  if (result < 0) return {Stage::kHostname, result};
  if (request.own_network != 0) result = bring_loopback_up();
  if (result < 0) return {Stage::kLoopback, result};
  result = set_limit(RLIMIT_NOFILE, request.open_files);
  if (result == 0) result = set_limit(RLIMIT_NPROC, request.processes == 0 ? 0 : request.processes + 1);  // init counts
  if (result == 0) result = set_limit(RLIMIT_FSIZE, request.file_bytes);
  if (result < 0) return {Stage::kLimits, result};
  // A second lock beside the filter: a task that traces another could let a RET_TRACE call through.
  result = write_sysctl_zero("/proc/sys/user/max_user_namespaces");
  if (result == 0) result = write_sysctl_zero("/proc/sys/user/max_mnt_namespaces");
  if (result < 0) return {Stage::kSysctl, result};
  const unsigned long mask = kSigchldMask;
  raw::call(SYS_rt_sigprocmask, SIG_BLOCK, raw::address(&mask), 0, sizeof mask);
  result = raw::call(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  if (result < 0) return {Stage::kFilter, result};
  result = install_filter(listener);
  if (result < 0) return {Stage::kFilter, result};
  return {};
}

void drop_capabilities() {
  for (int capability = 0; capability <= kLastCapability; ++capability) {
    if ((kTaskCapabilities & bit(capability)) == 0) raw::call(SYS_prctl, PR_CAPBSET_DROP, capability);
  }
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  data[0].effective = data[0].permitted = static_cast<std::uint32_t>(kTaskCapabilities);
  data[1].effective = data[1].permitted = static_cast<std::uint32_t>(kTaskCapabilities >> 32);
  raw::call(SYS_capset, raw::address(&header), raw::address(data));
}

bool contains_slash(const char* text) {
  for (; *text != '\0'; ++text) {
    if (*text == '/') return true;
  }
  return false;
}

// execve with the search of execvp(3): the PATH of the new environment, ENOENT and EACCES go on to the next entry.
long exec_searching(const char* const* arguments, const char* const* environment) {
  if (contains_slash(arguments[0])) {
    return raw::call(SYS_execve, raw::address(arguments[0]), raw::address(arguments), raw::address(environment));
  }
  const char* path = "/usr/local/bin:/usr/bin:/bin";
  for (const char* const* entry = environment; *entry != nullptr; ++entry) {
    const char* text = *entry;
    if (text[0] == 'P' && text[1] == 'A' && text[2] == 'T' && text[3] == 'H' && text[4] == '=') path = text + 5;
  }
  long result = -ENOENT;
  while (*path != '\0') {
    char candidate[4096];
    std::size_t length = 0;
    while (*path != '\0' && *path != ':' && length < sizeof candidate - 1) candidate[length++] = *path++;
    if (*path == ':') ++path;
    if (length == 0) candidate[length++] = '.';
    candidate[length++] = '/';
    const char* name = arguments[0];
    while (*name != '\0' && length < sizeof candidate - 1) candidate[length++] = *name++;
    candidate[length < sizeof candidate ? length : sizeof candidate - 1] = '\0';
    const long attempt =
        raw::call(SYS_execve, raw::address(candidate), raw::address(arguments), raw::address(environment));
    if (attempt != -ENOENT && attempt != -ENOTDIR) result = attempt;
    if (attempt != -ENOENT && attempt != -ENOTDIR && attempt != -EACCES) return attempt;
  }
  return result;
}

// Root's capabilities go with its ids.
long become_user(const SpawnHeader& header) {
  long result = raw::call(SYS_setgroups, header.group_count, raw::address(header.groups));
  if (result == 0) result = raw::call(SYS_setresgid, header.gid, header.gid, header.gid);
  if (result == 0) result = raw::call(SYS_setresuid, header.uid, header.uid, header.uid);
  return result;
}

[[noreturn]] void run_child(const SpawnHeader& header, const int* fds, int report_fd, const char* cwd,
                            const char* const* arguments, const char* const* environment) {
  const auto fail = [&](Stage stage, long result) {
    const Failure failure{stage, result};
    raw::call(SYS_write, report_fd, raw::address(&failure), sizeof failure);
    leave(127);
  };
  raw::call(SYS_setsid);
  // The received descriptors are above 4; place them, then keep only the report pipe, which closes at exec.
  for (int slot = 0; slot < 3; ++slot) raw::call(SYS_dup3, fds[slot], slot, 0);
  raw::call(SYS_dup3, report_fd, 3, O_CLOEXEC);
  report_fd = 3;
  raw::call(SYS_close_range, 4, ~0u, 0);
  const unsigned long empty_mask = 0;
  raw::call(SYS_rt_sigprocmask, SIG_SETMASK, raw::address(&empty_mask), 0, sizeof empty_mask);
  if (header.takes_terminal != 0) {
    const long taken = raw::call(SYS_ioctl, 0, TIOCSCTTY, 0);
    if (taken < 0) fail(Stage::kTerminal, taken);
  }
  drop_capabilities();
  if (header.changes_user != 0) {
    const long changed = become_user(header);
    if (changed < 0) fail(Stage::kUser, changed);
  }
  const long moved = raw::call(SYS_chdir, raw::address(cwd));
  if (moved < 0) fail(Stage::kChdir, moved);
  fail(Stage::kExec, exec_searching(arguments, environment));
  leave(127);
}

// Splits the message into cwd, argv and env inside `strings`: argv, null, env, null. Returns the cwd or null.
const char* parse_spawn(const SpawnHeader& header, std::size_t size) {
  if (header.argument_count == 0 || header.argument_count + header.environment_count > init_abi::kMaxStrings ||
      header.group_count > init_abi::kMaxGroups) {
    return nullptr;
  }
  if (message[size - 1] != '\0') return nullptr;
  const char* cursor = message + sizeof(SpawnHeader);
  const char* const end = message + size;
  const char* cwd = cursor;
  std::size_t stored = 0;
  const std::uint32_t wanted = header.argument_count + header.environment_count;
  const auto skip = [&] {
    while (cursor < end && *cursor != '\0') ++cursor;
    ++cursor;
  };
  skip();
  for (std::uint32_t index = 0; index < wanted; ++index) {
    if (cursor >= end) return nullptr;
    if (index == header.argument_count) strings[stored++] = nullptr;
    strings[stored++] = cursor;
    skip();
  }
  if (header.environment_count == 0) strings[stored++] = nullptr;
  strings[stored] = nullptr;
  return cwd;
}

void spawn(std::size_t size, const int* fds, int fd_count) {
  const auto& header = *reinterpret_cast<const SpawnHeader*>(message);
  const char* cwd = fd_count == 3 && size > sizeof header ? parse_spawn(header, size) : nullptr;
  if (cwd == nullptr) {
    send_failure(Stage::kParse, -EINVAL);
    return;
  }
  int report[2];
  long result = raw::call(SYS_pipe2, raw::address(report), O_CLOEXEC);
  if (result < 0) {
    send_failure(Stage::kFork, result);
    return;
  }
  const long child = raw::call(SYS_clone, SIGCHLD, 0, 0, 0, 0);
  if (child == 0) run_child(header, fds, report[1], cwd, strings, strings + header.argument_count + 1);
  raw::call(SYS_close, report[1]);
  Failure failure;
  // The child execs at once, so this wait is as short as an exec; its end of the pipe closes either way.
  const long count = child < 0 ? 0 : raw::call(SYS_read, report[0], raw::address(&failure), sizeof failure);
  raw::call(SYS_close, report[0]);
  if (child < 0) {
    send_failure(Stage::kFork, child);
  } else if (count == static_cast<long>(sizeof failure)) {
    raw::call(SYS_wait4, child, 0, 0, 0);
    send_failure(failure.stage, failure.result);
  } else {
    send_reply(Reply{Type::kSpawned, static_cast<std::int32_t>(child), 0, Stage::kNone}, static_cast<int>(child));
  }
}

void make_socket(const SocketRequest& request) {
  const long fd = raw::call(SYS_socket, request.family, request.kind | SOCK_CLOEXEC, 0);
  if (fd < 0) {
    send_failure(Stage::kSocket, fd);
    return;
  }
  hand_over(Type::kSocket, fd);
}

void reap_all() {
  for (;;) {
    int status = 0;
    const long pid = raw::call(SYS_wait4, -1, raw::address(&status), WNOHANG | __WALL, 0);
    if (pid <= 0) return;
    send_reply(Reply{Type::kExited, static_cast<std::int32_t>(pid), status, Stage::kNone}, 0);
  }
}

// A setting of the kernel's that is a number. `previous`: what it was.
long set_number(const char* path, int number, int& previous) {
  char digits[12];
  std::size_t start = sizeof digits;
  for (int rest = number; rest > 0 || start == sizeof digits; rest /= 10) {
    digits[--start] = static_cast<char>('0' + rest % 10);
  }
  const long fd = raw::call(SYS_openat, AT_FDCWD, raw::address(path), O_RDWR | O_CLOEXEC);
  if (fd < 0) return fd;
  char text[12];
  const long size = raw::call(SYS_pread64, fd, raw::address(text), sizeof text, 0);
  previous = 0;
  for (long index = 0; index < size && text[index] >= '0' && text[index] <= '9'; ++index) {
    previous = previous * 10 + (text[index] - '0');
  }
  const long written = raw::call(SYS_write, fd, raw::address(digits + start), sizeof digits - start);
  raw::call(SYS_close, fd);
  return written < 0 ? written : 0;
}

// The kernel gives the number after the last one, if it is free. What ended is reaped first, so that its number is.
// `previous`: the last one so far.
long choose_next_pid(int pid, int& previous) {
  reap_all();
  return set_number("/proc/sys/kernel/ns_last_pid", pid - 1, previous);
}

void serve_next_segment(const NextPidRequest& request) {
  int previous = 0;
  const long chosen = set_number("/proc/sys/kernel/shm_next_id", request.pid, previous);
  if (chosen < 0) return send_failure(Stage::kNextPid, chosen);
  send_reply(Reply{Type::kNextSegment, 0, 0, Stage::kNone}, 0);
}

void serve_next_pid(const NextPidRequest& request) {
  int previous = 0;
  const long chosen = request.pid > 1 ? choose_next_pid(request.pid, previous) : -EINVAL;
  if (chosen < 0) return send_failure(Stage::kNextPid, chosen);
  if (request.type == Type::kNextPid) return send_reply(Reply{Type::kNextPid, previous, 0, Stage::kNone}, 0);
  int done[2];
  const long piped = raw::call(SYS_pipe2, raw::address(done), O_CLOEXEC);
  if (piped < 0) return send_failure(Stage::kFork, piped);
  const long child = raw::call(SYS_clone, SIGCHLD, 0, 0, 0, 0);
  if (child == 0) {
    raw::call(SYS_setsid);
    drop_capabilities();
    raw::call(SYS_close_range, 0, ~0u, 0);  // tells init, and must be the last step: the engine then takes over
    for (;;) raw::call(SYS_poll, 0, 0, -1);
  }
  raw::call(SYS_close, done[1]);
  char nothing;
  if (child > 0) raw::call(SYS_read, done[0], raw::address(&nothing), 1);
  raw::call(SYS_close, done[0]);
  if (child < 0) return send_failure(Stage::kFork, child);
  send_reply(Reply{Type::kSpawned, static_cast<std::int32_t>(child), 0, Stage::kNone}, static_cast<int>(child));
}

void serve_message() {
  iovec part{message, sizeof message};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * 8)];
  msghdr packet;
  memset(&packet, 0, sizeof packet);
  packet.msg_iov = &part;
  packet.msg_iovlen = 1;
  packet.msg_control = control;
  packet.msg_controllen = sizeof control;
  const long size = raw::call(SYS_recvmsg, init_abi::kControlFd, raw::address(&packet), MSG_CMSG_CLOEXEC);
  if (size == -EINTR) return;
  if (size <= 0) {
    raw::call(SYS_kill, -1, SIGKILL);
    leave(0);
  }
  int fds[8];
  int fd_count = 0;
  if (packet.msg_controllen >= sizeof(cmsghdr)) {
    auto* header = reinterpret_cast<cmsghdr*>(control);
    if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
      fd_count = static_cast<int>((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
      memcpy(fds, CMSG_DATA(header), sizeof(int) * static_cast<std::size_t>(fd_count));
    }
  }
  const Type type = *reinterpret_cast<const Type*>(message);
  if (type == Type::kSetUp && size == sizeof(SetUpRequest)) {
    long listener = -1;
    const Failure failure = set_up(*reinterpret_cast<const SetUpRequest*>(message), listener);
    if (failure.result < 0) {
      send_failure(failure.stage, failure.result);
    } else if (listener >= 0) {
      hand_over(Type::kReady, listener);
    } else {
      send_reply(Reply{Type::kReady, 0, 0, Stage::kNone}, 0);
    }
  } else if (type == Type::kSpawn) {
    spawn(static_cast<std::size_t>(size), fds, fd_count);
  } else if (type == Type::kSocket && size == sizeof(SocketRequest)) {
    make_socket(*reinterpret_cast<const SocketRequest*>(message));
  } else if (type == Type::kNextSegment && size == sizeof(NextPidRequest)) {
    serve_next_segment(*reinterpret_cast<const NextPidRequest*>(message));
  } else if ((type == Type::kNextPid || type == Type::kStub) && size == sizeof(NextPidRequest)) {
    serve_next_pid(*reinterpret_cast<const NextPidRequest*>(message));
  }
  for (int index = 0; index < fd_count; ++index) raw::call(SYS_close, fds[index]);
}

void reap(int signal_fd) {
  char ignored[128 * 8];
  raw::call(SYS_read, signal_fd, raw::address(ignored), sizeof ignored);
  reap_all();
}

}  // namespace

// The kernel enters with rsp 16-byte aligned, a function expects it off by 8.
extern "C" [[noreturn]] __attribute__((force_align_arg_pointer)) void start() {
  raw::call(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
  const unsigned long mask = kSigchldMask;
  raw::call(SYS_rt_sigprocmask, SIG_BLOCK, raw::address(&mask), 0, sizeof mask);
  const long signal_fd = raw::call(SYS_signalfd4, -1, raw::address(&mask), sizeof mask, 02000000 | 04000);
  if (signal_fd < 0) leave(1);
  pollfd waiting[2] = {{init_abi::kControlFd, POLLIN, 0}, {static_cast<int>(signal_fd), POLLIN, 0}};
  for (;;) {
    const long ready = raw::call(SYS_poll, raw::address(waiting), 2, -1);
    if (ready == -EINTR) continue;
    if (waiting[1].revents != 0) reap(static_cast<int>(signal_fd));
    if (waiting[0].revents != 0) serve_message();
  }
}
