#include "engine_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "sys_error.h"

namespace deltabox::addon {
namespace {

constexpr int kControlFd = 3;
// The engine forks and exits before it does any work; a machine that needs longer is stuck.
constexpr int kDetachTimeoutMs = 10'000;
// A listening engine takes connections whenever its queue is free; its longest call is bounded well below this.
constexpr int kConnectTimeoutS = 30;

void Check(int posix_result, const char* operation) {
  if (posix_result != 0) throw SysError(posix_result, operation);
}

class SpawnSettings {
 public:
  SpawnSettings() {
    Check(posix_spawn_file_actions_init(&actions), "posix_spawn_file_actions_init");
    Check(posix_spawnattr_init(&attributes), "posix_spawnattr_init");
  }
  SpawnSettings(const SpawnSettings&) = delete;
  SpawnSettings& operator=(const SpawnSettings&) = delete;
  ~SpawnSettings() {
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
  }

  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
};

void Configure(SpawnSettings& settings, int control_fd, const std::string& log_path) {
  auto* actions = &settings.actions;
  // The control socket first: the other actions might otherwise overwrite its number. A dup2 onto itself clears
  // close-on-exec in glibc's posix_spawn.
  Check(posix_spawn_file_actions_adddup2(actions, control_fd, kControlFd), "posix_spawn");
  Check(posix_spawn_file_actions_addopen(actions, 0, "/dev/null", O_RDONLY, 0), "posix_spawn");
  Check(
      posix_spawn_file_actions_addopen(actions, 1, log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, 0600),
      "posix_spawn");
  Check(posix_spawn_file_actions_adddup2(actions, 1, 2), "posix_spawn");
  Check(posix_spawn_file_actions_addclosefrom_np(actions, kControlFd + 1), "posix_spawn");
  Check(posix_spawn_file_actions_addchdir_np(actions, "/"), "posix_spawn");

  // Node ignores SIGPIPE and its threads block signals: the engine starts with neither, and in a session of its own
  // so that a terminal's Ctrl-C does not reach it.
  sigset_t none;
  sigset_t all;
  sigemptyset(&none);
  sigfillset(&all);
  Check(posix_spawnattr_setsigmask(&settings.attributes, &none), "posix_spawn");
  Check(posix_spawnattr_setsigdefault(&settings.attributes, &all), "posix_spawn");
  Check(posix_spawnattr_setflags(&settings.attributes,
                                 POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID),
        "posix_spawn");
}

void AwaitDetached(pid_t pid) {
  const OwnedFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (pidfd.IsOpen()) {
    pollfd ready{pidfd.Get(), POLLIN, 0};
    if (::poll(&ready, 1, kDetachTimeoutMs) == 0) ::kill(pid, SIGKILL);
  }
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0) {
    if (errno != EINTR) throw SysError(errno, "waitpid");
  }
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) throw SysError(ECHILD, "engine start");
}

}  // namespace

OwnedFd SpawnEngine(const std::string& engine_path, const std::vector<std::string>& args, const std::string& log_path) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) throw SysError(errno, "socketpair");
  OwnedFd ours(ends[0]);
  const OwnedFd theirs(ends[1]);

  SpawnSettings settings;
  Configure(settings, theirs.Get(), log_path);
  std::vector<char*> argv{const_cast<char*>(engine_path.c_str())};
  for (const std::string& arg : args) argv.push_back(const_cast<char*>(arg.c_str()));
  argv.push_back(nullptr);
  char path_variable[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
  // The engine sees nothing of the client's environment but the tests' fault point (src/base/fault.h), and that it
  // shall do without userfaultfd (src/deltacr/memory_tracker.h).
  std::vector<std::string> variables;
  for (const char* name : {"DELTABOX_FAULT", "DELTABOX_COMPARE_MEMORY"}) {
    const char* value = std::getenv(name);
    if (value != nullptr) variables.push_back(std::string(name) + "=" + value);
  }
  std::vector<char*> environment{path_variable};
  for (std::string& variable : variables) environment.push_back(variable.data());
  environment.push_back(nullptr);
  pid_t pid = 0;
  Check(::posix_spawn(&pid, engine_path.c_str(), &settings.actions, &settings.attributes, argv.data(),
                      environment.data()),
        "posix_spawn");
  AwaitDetached(pid);
  return ours;
}

OwnedFd ConnectEngine(const std::string& sandbox_dir) {
  const OwnedFd dir(::open(sandbox_dir.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!dir.IsOpen()) throw SysError(errno, "open");
  OwnedFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket.IsOpen()) throw SysError(errno, "socket");
  // A socket address holds 107 bytes of path; through /proc/self/fd any state directory fits.
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/engine.sock", dir.Get());
  timeval limit{kConnectTimeoutS, 0};
  if (::setsockopt(socket.Get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) != 0) {
    throw SysError(errno, "setsockopt");
  }
  if (::connect(socket.Get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    throw SysError(errno, "connect");
  }
  limit = {0, 0};
  if (::setsockopt(socket.Get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) != 0) {
    throw SysError(errno, "setsockopt");
  }
  return socket;
}

OwnedFd CreateMemfd(const uint8_t* data, size_t size_bytes) {
  OwnedFd memfd(::memfd_create("deltabox-write", MFD_CLOEXEC));
  if (!memfd.IsOpen()) throw SysError(errno, "memfd_create");
  size_t written_bytes = 0;
  while (written_bytes < size_bytes) {
    const ssize_t count =
        ::pwrite(memfd.Get(), data + written_bytes, size_bytes - written_bytes, static_cast<off_t>(written_bytes));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) throw SysError(count < 0 ? errno : EIO, "pwrite");
    written_bytes += static_cast<size_t>(count);
  }
  return memfd;
}

}  // namespace deltabox::addon
