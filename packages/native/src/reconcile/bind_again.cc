#include "reconcile/bind_again.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "sys/files.h"

namespace deltabox {

namespace {

// The directory from which the name leads to the node: that of the process at its bind(2) when the name is relative.
Result<UniqueFd> start_of(const std::string& name, const SocketNode& node, int m1_root) {
  std::string start = "/";
  if (!name.starts_with('/')) {
    if (!node.path.ends_with("/" + name)) {
      return make_error(Code::kUnsupported, "its file is not where it was bound: " + node.path);
    }
    start = node.path.substr(0, node.path.size() - name.size());
  }
  return sys::open_in_root(m1_root, start, O_PATH | O_DIRECTORY);
}

}  // namespace

Result<void> bind_again(int fd, const SocketState& wanted, int m1_root) {
  const SocketNode& node = wanted.node;
  const std::size_t slash = node.path.rfind('/');
  const std::string file = node.path.substr(slash + 1);
  UniqueFd parent = TRY(sys::open_in_root(m1_root, node.path.substr(0, slash + 1), O_PATH | O_DIRECTORY));
  UniqueFd start = TRY(start_of(wanted.bound_path(), node, m1_root));
  const struct stat parent_before = TRY(sys::stat_fd(parent.get()));
  struct stat present {};
  if (::fstatat(parent.get(), file.c_str(), &present, AT_SYMLINK_NOFOLLOW) == 0) {
    if (!S_ISSOCK(present.st_mode)) {
      return make_error(Code::kUnsupported, "another file lies at its path " + node.path);
    }
    if (::unlinkat(parent.get(), file.c_str(), 0) != 0) return os_error("unlinkat", node.path);
  }
  if (::fchdir(start.get()) != 0) return os_error("fchdir", node.path);
  const int bound =
      ::bind(fd, reinterpret_cast<const sockaddr*>(wanted.name.data()), static_cast<socklen_t>(wanted.name.size()));
  const Result<void> outcome = bound == 0 ? Result<void>() : os_error("bind", node.path);
  if (::chdir("/") != 0) return os_error("chdir", "/");
  TRY(outcome);
  // A process with another root, or a link on the way that leads elsewhere by now.
  if (::fstatat(parent.get(), file.c_str(), &present, AT_SYMLINK_NOFOLLOW) != 0) {
    return make_error(Code::kUnsupported, "its name leads elsewhere than to " + node.path);
  }
  if (::fchownat(parent.get(), file.c_str(), node.uid, node.gid, AT_SYMLINK_NOFOLLOW) != 0 ||
      ::fchmodat(parent.get(), file.c_str(), node.mode, 0) != 0 ||
      ::utimensat(parent.get(), file.c_str(), node.times, AT_SYMLINK_NOFOLLOW) != 0) {
    return os_error("chown", node.path);
  }
  const timespec times[] = {parent_before.st_atim, parent_before.st_mtim};
  if (::utimensat(parent.get(), "", times, AT_EMPTY_PATH) != 0) return os_error("utimensat", node.path);
  return {};
}

Result<void> connect_again(int fd, const SocketState& target, int m1_root) {
  if (!target.has_path()) {
    const auto* address = reinterpret_cast<const sockaddr*>(target.name.data());
    if (::connect(fd, address, static_cast<socklen_t>(target.name.size())) != 0) return os_error("connect", "socket");
    return {};
  }
  const std::size_t slash = target.node.path.rfind('/');
  if (slash == std::string::npos) return make_error(Code::kUnsupported, "no path leads to what it was connected to");
  const std::string file = target.node.path.substr(slash + 1);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (file.size() >= sizeof address.sun_path) return make_error(Code::kInternal, "a name that nobody can bind");
  std::memcpy(address.sun_path, file.data(), file.size());
  const UniqueFd parent = TRY(sys::open_in_root(m1_root, target.node.path.substr(0, slash + 1), O_PATH | O_DIRECTORY));
  if (::fchdir(parent.get()) != 0) return os_error("fchdir", target.node.path);
  const int connected = ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address);
  Result<void> outcome = connected == 0 ? Result<void>() : os_error("connect", target.node.path);
  if (::chdir("/") != 0) return os_error("chdir", "/");
  return outcome;
}

}  // namespace deltabox
