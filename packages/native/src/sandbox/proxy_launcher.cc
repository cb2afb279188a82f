#include "sandbox/proxy_launcher.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>

#include "sys/sockets.h"

namespace deltabox {

namespace {

constexpr int kListenerFd = 3;  // the proxy's own constants: packages/core, network/proxy/config.ts
constexpr int kControlFd = 4;
constexpr int kFirstDirectFd = 5;
constexpr int kFirstHighFd = 640;  // behind the places of all listeners (engine/network.cc)
constexpr char kMoreFollow = 'm';
constexpr char kLast = 'l';
constexpr std::size_t kFdsPerMessage = 16;

// In order, at 3 and from 5 on; false when the engine gave up.
bool receive_listeners(int control_fd) {
  int next = kListenerFd;
  for (char more = kMoreFollow; more == kMoreFollow;) {
    Result<sys::Received> received = sys::receive_with_fds(control_fd, &more, 1);
    if (!received.ok() || received.value().size_bytes != 1) return false;
    // Out of the way of the places that are still to be filled.
    std::vector<UniqueFd> high;
    for (const UniqueFd& fd : received.value().fds) {
      high.emplace_back(::fcntl(fd.get(), F_DUPFD_CLOEXEC, kFirstHighFd));
    }
    received.value().fds.clear();
    for (const UniqueFd& fd : high) {
      if (::dup2(fd.get(), next) < 0) return false;
      next = next == kListenerFd ? kFirstDirectFd : next + 1;
    }
  }
  return next > kListenerFd;
}

// Standard error stays the engine's: the log of the sandbox.
[[noreturn]] void become_proxy(int control_fd, char* const* arguments) {
  if (::dup2(control_fd, kControlFd) < 0) ::_exit(1);
  ::close_range(kControlFd + 1, ~0u, 0);
  ::close(kListenerFd);
  if (!receive_listeners(kControlFd)) ::_exit(0);
  const int null_fd = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  ::dup2(null_fd, STDIN_FILENO);
  ::dup2(STDERR_FILENO, STDOUT_FILENO);
  if (null_fd > STDERR_FILENO) ::close(null_fd);
  (void)::setpriority(PRIO_PROCESS, 0, 0);  // the engine's own may be higher
  ::signal(SIGPIPE, SIG_DFL);
  ::signal(SIGHUP, SIG_DFL);
  ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  if (::chdir("/") != 0) ::_exit(1);
  // The client's environment may hold keys, and the proxy needs none of it.
  char* const environment[] = {nullptr};
  ::execve(arguments[0], arguments, environment);
  std::perror("network proxy");
  ::_exit(127);
}

}  // namespace

Result<ProxyLauncher> ProxyLauncher::start(const std::vector<std::string>& command) {
  if (command.empty() || command[0].empty() || command[0][0] != '/') {
    return make_error(Code::kInvalidArgument, "the network proxy has no absolute path");
  }
  std::vector<char*> arguments;
  for (const std::string& argument : command) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  auto [ours, theirs] = TRY(sys::make_socket_pair(SOCK_STREAM));
  const pid_t pid = ::fork();
  if (pid < 0) return os_error("fork", "network proxy");
  if (pid == 0) become_proxy(theirs.get(), arguments.data());
  ProxyLauncher launcher;
  launcher.control_ = std::move(ours);
  return launcher;
}

Result<UniqueFd> ProxyLauncher::launch(const std::vector<UniqueFd>& listeners) {
  for (std::size_t start = 0; start < listeners.size(); start += kFdsPerMessage) {
    const std::size_t end = std::min(start + kFdsPerMessage, listeners.size());
    std::vector<int> fds;
    for (std::size_t index = start; index < end; ++index) fds.push_back(listeners[index].get());
    TRY(sys::send_with_fds(control_.get(), end == listeners.size() ? &kLast : &kMoreFollow, 1, fds));
  }
  if (::fcntl(control_.get(), F_SETFL, O_NONBLOCK) != 0) return os_error("fcntl", "network proxy");
  return std::move(control_);
}

}  // namespace deltabox
