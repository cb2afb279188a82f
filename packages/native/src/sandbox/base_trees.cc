#include "sandbox/base_trees.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <sstream>

#include "sys/files.h"
#include "sys/mounts.h"
#include "sys/sockets.h"

namespace deltabox {

namespace {

// What the helper answers: one packet, errno 0 and the descriptors, or the failure and its subject.
struct Answer {
  int os_errno = 0;
  char operation[32] = {};
  char subject[200] = {};
};

// mountinfo writes space, tab, newline and backslash as three octal digits (proc(5)).
std::string unescape_mountinfo(const std::string& text) {
  std::string plain;
  for (std::size_t index = 0; index < text.size(); ++index) {
    if (text[index] == '\\' && index + 3 < text.size()) {
      plain += static_cast<char>(std::stoi(text.substr(index + 1, 3), nullptr, 8));
      index += 3;
    } else {
      plain += text[index];
    }
  }
  return plain;
}

Result<UniqueFd> clone_tree(const BaseTree& tree, int user_namespace_fd) {
  UniqueFd mount = TRY(sys::open_tree_clone(AT_FDCWD, tree.path, tree.recursive));
  if (tree.idmapped && user_namespace_fd >= 0) {
    Result<void> mapped = sys::set_mount_idmap(mount.get(), user_namespace_fd);
    if (!mapped.ok()) {
      Error error = mapped.release_error();
      error.subject = tree.path;
      return error;
    }
  }
  return mount;
}

Result<std::vector<UniqueFd>> clone_trees(const std::vector<BaseTree>& trees, int user_namespace_fd) {
  std::vector<UniqueFd> mounts;
  for (const BaseTree& tree : trees) mounts.push_back(TRY(clone_tree(tree, user_namespace_fd)));
  return mounts;
}

Result<std::vector<UniqueFd>> serve_once(const IdMap& map, const std::vector<BaseTree>& trees, pid_t engine_pid) {
  UniqueFd proc = TRY(sys::open_at(AT_FDCWD, "/proc", O_PATH | O_DIRECTORY));
  TRY(write_id_maps(proc.get(), engine_pid, map));
  UniqueFd user_namespace = TRY(sys::open_at(proc.get(), std::to_string(engine_pid) + "/ns/user", O_RDONLY));
  // A private copy of the mount namespace, so that nothing done here can be seen by the host.
  if (::unshare(CLONE_NEWNS) != 0) return os_error("unshare", "CLONE_NEWNS");
  TRY(sys::make_all_private());
  return clone_trees(trees, user_namespace.get());
}

Result<void> receive_mounts(int socket_fd, Answer& answer, std::vector<UniqueFd>& mounts) {
  sys::Received received = TRY(sys::receive_with_fds(socket_fd, &answer, sizeof answer));
  if (received.size_bytes != sizeof answer) return make_error(Code::kInternal, "the host helper died");
  if (answer.os_errno == 0 && received.fds.empty()) return make_error(Code::kInternal, "the host helper lost a mount");
  for (UniqueFd& mount : received.fds) mounts.push_back(std::move(mount));
  return {};
}

[[noreturn]] void run_helper(int socket_fd, const IdMap& map, const std::vector<BaseTree>& trees, pid_t engine_pid) {
  char request = 0;
  if (::read(socket_fd, &request, 1) != 1) ::_exit(1);
  Result<std::vector<UniqueFd>> mounts = serve_once(map, trees, engine_pid);
  Answer answer;
  std::vector<int> fds;
  if (mounts.ok()) {
    for (const UniqueFd& mount : mounts.value()) fds.push_back(mount.get());
  } else {
    answer.os_errno = mounts.error().os_errno != 0 ? mounts.error().os_errno : EIO;
    mounts.error().operation.copy(answer.operation, sizeof answer.operation - 1);
    mounts.error().subject.copy(answer.subject, sizeof answer.subject - 1);
  }
  // One packet takes kMaxFdsPerMessage descriptors.
  std::size_t begin = 0;
  do {
    const std::size_t end = std::min(fds.size(), begin + sys::kMaxFdsPerMessage);
    const std::vector<int> batch(fds.begin() + static_cast<std::ptrdiff_t>(begin),
                                 fds.begin() + static_cast<std::ptrdiff_t>(end));
    if (!sys::send_with_fds(socket_fd, &answer, sizeof answer, batch).ok()) ::_exit(1);
    begin = end;
  } while (begin < fds.size());
  ::_exit(0);
}

}  // namespace

Result<std::vector<std::string>> mounts_below(const std::string& path) {
  const std::string text = TRY(sys::read_file_at(AT_FDCWD, "/proc/self/mountinfo", 16u << 20));
  const std::string prefix = path == "/" ? path : path + "/";
  std::vector<std::string> found;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream fields(line);
    std::string id, parent, device, root, mount_point;
    fields >> id >> parent >> device >> root >> mount_point;
    mount_point = unescape_mountinfo(mount_point);
    if (mount_point.starts_with(prefix) && mount_point != path) found.push_back(mount_point);
  }
  return found;
}

Result<HostHelper> HostHelper::start(const IdMap& map, std::vector<BaseTree> trees) {
  HostHelper helper;
  helper.map_ = map;
  helper.trees_ = std::move(trees);
  if (!map.ranged) return helper;
  auto [ours, theirs] = TRY(sys::make_socket_pair(SOCK_SEQPACKET));
  const pid_t engine_pid = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) return os_error("fork", "host helper");
  if (pid == 0) {
    ours.reset();
    run_helper(theirs.get(), helper.map_, helper.trees_, engine_pid);
  }
  helper.socket_ = std::move(ours);
  helper.pid_ = pid;
  return helper;
}

Result<std::vector<UniqueFd>> HostHelper::map_and_clone(int proc_fd) {
  if (!map_.ranged) {
    TRY(write_id_maps(proc_fd, ::getpid(), map_));
    if (::unshare(CLONE_NEWNS) != 0) return os_error("unshare", "CLONE_NEWNS");
    TRY(sys::make_all_private());
    return clone_trees(trees_, -1);
  }
  if (::unshare(CLONE_NEWNS) != 0) return os_error("unshare", "CLONE_NEWNS");
  TRY(sys::make_all_private());
  TRY(sys::send_with_fds(socket_.get(), "m", 1));
  Answer answer;
  std::vector<UniqueFd> mounts;
  Result<void> received;
  while (received.ok() && answer.os_errno == 0 && mounts.size() < trees_.size()) {
    received = receive_mounts(socket_.get(), answer, mounts);
  }
  int status = 0;
  ::waitpid(pid_, &status, 0);
  TRY(received);
  if (answer.os_errno != 0) {
    Error error = os_error_from(answer.os_errno, answer.operation, answer.subject);
    if (error.operation == "mount_setattr") {
      error.code = Code::kUnsupported;
      error.message = "the file system of " + error.subject + " does not offer idmapped mounts";
      error.next_step = "Keep it on ext4, XFS, btrfs or tmpfs, or run as the ordinary user who owns it.";
    }
    return error;
  }
  return mounts;
}

}  // namespace deltabox
