#include "sandbox/proxy_launcher.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>

#include "sys/sockets.h"

namespace deltabox {

namespace {

constexpr int kListenerFd = 3;  // the proxy's own constants: packages/core, network/proxy/config.ts
constexpr int kControlFd = 4;

// Standard error stays the engine's: the log of the sandbox.
[[noreturn]] void become_proxy(int control_fd, char* const* arguments) {
  if (::dup2(control_fd, kControlFd) < 0) ::_exit(1);
  ::close_range(kControlFd + 1, ~0u, 0);
  ::close(kListenerFd);
  char byte;
  Result<sys::Received> received = sys::receive_with_fds(kControlFd, &byte, 1);
  if (!received.ok() || received.value().fds.size() != 1) ::_exit(0);
  const int listener = received.value().fds[0].get();
  if (listener == kListenerFd) {
    ::fcntl(listener, F_SETFD, 0);
  } else if (::dup2(listener, kListenerFd) < 0) {
    ::_exit(1);
  }
  const int null_fd = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  ::dup2(null_fd, STDIN_FILENO);
  ::dup2(STDERR_FILENO, STDOUT_FILENO);
  ::close_range(kControlFd + 1, ~0u, 0);
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

Result<UniqueFd> ProxyLauncher::launch(const UniqueFd& listener) {
  TRY(sys::send_with_fds(control_.get(), "l", 1, {listener.get()}));
  if (::fcntl(control_.get(), F_SETFL, O_NONBLOCK) != 0) return os_error("fcntl", "network proxy");
  return std::move(control_);
}

}  // namespace deltabox
