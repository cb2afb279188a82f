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

Answer answer_of(const Error& error) {
  Answer answer;
  answer.os_errno = error.os_errno != 0 ? error.os_errno : EIO;
  error.operation.copy(answer.operation, sizeof answer.operation - 1);
  error.subject.copy(answer.subject, sizeof answer.subject - 1);
  return answer;
}

Error error_of(const Answer& answer) {
  Error error = os_error_from(answer.os_errno, answer.operation, answer.subject);
  if (error.operation == "mount_setattr") {
    error.code = Code::kUnsupported;
    error.message = "the file system of " + error.subject + " does not offer idmapped mounts";
    error.next_step = "Keep it on ext4, XFS, btrfs or tmpfs, or run as the ordinary user who owns it.";
  }
  return error;
}

Result<UniqueFd> write_maps(const IdMap& map, pid_t engine_pid) {
  UniqueFd proc = TRY(sys::open_at(AT_FDCWD, "/proc", O_PATH | O_DIRECTORY));
  TRY(write_id_maps(proc.get(), engine_pid, map));
  return sys::open_at(proc.get(), std::to_string(engine_pid) + "/ns/user", O_RDONLY);
}

Result<std::vector<UniqueFd>> serve_trees(const std::vector<BaseTree>& trees, int user_namespace_fd) {
  // A private copy of the mount namespace, so that nothing done here can be seen by the host.
  if (::unshare(CLONE_NEWNS) != 0) return os_error("unshare", "CLONE_NEWNS");
  TRY(sys::make_all_private());
  return clone_trees(trees, user_namespace_fd);
}

Result<void> send_answer(int socket_fd, const Answer& answer, const std::vector<int>& fds = {}) {
  return sys::send_with_fds(socket_fd, &answer, sizeof answer, fds);
}

Result<Answer> receive_answer(int socket_fd, std::vector<UniqueFd>& mounts) {
  Answer answer;
  sys::Received received = TRY(sys::receive_with_fds(socket_fd, &answer, sizeof answer));
  if (received.size_bytes != sizeof answer) return make_error(Code::kInternal, "the host helper died");
  for (UniqueFd& mount : received.fds) mounts.push_back(std::move(mount));
  return answer;
}

Result<void> send_trees(int socket_fd, const std::vector<UniqueFd>& trees) {
  std::vector<int> fds;
  for (const UniqueFd& tree : trees) fds.push_back(tree.get());
  // One packet takes kMaxFdsPerMessage descriptors.
  std::size_t begin = 0;
  do {
    const std::size_t end = std::min(fds.size(), begin + sys::kMaxFdsPerMessage);
    const std::vector<int> batch(fds.begin() + static_cast<std::ptrdiff_t>(begin),
                                 fds.begin() + static_cast<std::ptrdiff_t>(end));
    TRY(send_answer(socket_fd, {}, batch));
    begin = end;
  } while (begin < fds.size());
  return {};
}

[[noreturn]] void run_helper(int socket_fd, const IdMap& map, const std::vector<BaseTree>& trees,
                             const std::vector<SystemView>& views, pid_t engine_pid) {
  char request = 0;
  if (::read(socket_fd, &request, 1) != 1) ::_exit(1);
  const Result<UniqueFd> user_namespace = write_maps(map, engine_pid);
  const Answer mapped = user_namespace.ok() ? Answer{} : answer_of(user_namespace.error());
  if (!send_answer(socket_fd, mapped).ok() || !user_namespace.ok()) ::_exit(1);
  const Result<std::vector<UniqueFd>> served = serve_trees(trees, user_namespace.value().get());
  if (!served.ok()) ::_exit(send_answer(socket_fd, answer_of(served.error())).ok() ? 0 : 1);
  if (!send_trees(socket_fd, served.value()).ok()) ::_exit(1);
  if (views.empty()) ::_exit(0);
  ViewBuilder builder = ViewBuilder::prepare(views, map);
  for (const Result<UniqueFd>& view : builder.mount(user_namespace.value().get())) {
    const Result<void> sent =
        view.ok() ? send_answer(socket_fd, {}, {view.value().get()}) : send_answer(socket_fd, answer_of(view.error()));
    if (!sent.ok()) ::_exit(1);
  }
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

Result<HostHelper> HostHelper::start(const IdMap& map, std::vector<BaseTree> trees, std::vector<SystemView> views) {
  HostHelper helper;
  helper.map_ = map;
  helper.trees_ = std::move(trees);
  helper.views_ = std::move(views);
  if (!map.ranged) return helper;
  auto [ours, theirs] = TRY(sys::make_socket_pair(SOCK_SEQPACKET));
  const pid_t engine_pid = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) return os_error("fork", "host helper");
  if (pid == 0) {
    ours.reset();
    run_helper(theirs.get(), helper.map_, helper.trees_, helper.views_, engine_pid);
  }
  helper.socket_ = std::move(ours);
  helper.pid_ = pid;
  return helper;
}

Result<void> HostHelper::map_ids(int proc_fd) {
  if (!map_.ranged) {
    TRY(write_id_maps(proc_fd, ::getpid(), map_));
  } else {
    TRY(sys::send_with_fds(socket_.get(), "m", 1));
    std::vector<UniqueFd> none;
    const Answer answer = TRY(receive_answer(socket_.get(), none));
    if (answer.os_errno != 0) return error_of(answer);
  }
  if (::unshare(CLONE_NEWNS) != 0) return os_error("unshare", "CLONE_NEWNS");
  return sys::make_all_private();
}

Result<HostMounts> HostHelper::take_mounts() {
  HostMounts mounts;
  if (!map_.ranged) {
    mounts.trees = TRY(clone_trees(trees_, -1));
    return mounts;
  }
  while (mounts.trees.size() < trees_.size()) {
    const std::size_t before = mounts.trees.size();
    const Answer answer = TRY(receive_answer(socket_.get(), mounts.trees));
    if (answer.os_errno != 0) return error_of(answer);
    if (mounts.trees.size() == before) return make_error(Code::kInternal, "the host helper lost a mount");
  }
  while (mounts.views.size() < views_.size()) {
    std::vector<UniqueFd> view;
    const Answer answer = TRY(receive_answer(socket_.get(), view));
    if (answer.os_errno == 0 && view.empty()) return make_error(Code::kInternal, "the host helper lost a view");
    if (answer.os_errno != 0) {
      mounts.views.emplace_back(error_of(answer));
    } else {
      mounts.views.emplace_back(std::move(view.front()));
    }
  }
  return mounts;
}

void HostHelper::reap() {
  int status = 0;
  if (pid_ > 0) ::waitpid(pid_, &status, 0);
  pid_ = -1;
}

}  // namespace deltabox
