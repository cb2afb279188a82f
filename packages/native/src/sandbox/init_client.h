// The engine's side of pid 1's control socket. Everything that comes back is checked: init runs inside.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace deltabox {

// Whom a command runs as.
struct SpawnUser {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::vector<std::uint32_t> groups;  // supplementary, at most init_abi::kMaxGroups
};

struct SpawnRequest {
  std::vector<std::string> arguments;
  std::vector<std::string> environment;
  std::string cwd;
  int stdin_fd = -1;
  int stdout_fd = -1;
  int stderr_fd = -1;
  bool takes_terminal = false;    // standard input becomes the controlling terminal of the command's session
  std::optional<SpawnUser> user;  // none: root
};

// What init does before it serves.
struct InitOptions {
  bool own_network = true;       // false: the host's, whose loopback is up
  std::uint64_t open_files = 0;  // limit per task; 0: the host's
  std::uint64_t processes = 0;   // limit per user inside; 0: the host's
  std::uint64_t file_bytes = 0;  // limit of a file's size; 0: the host's
};

struct Spawned {
  InsidePid pid;
  HostTid host_tid;
};

struct ChildExit {
  InsidePid pid;
  int status = 0;  // as of waitpid(2)
};

class InitClient {
 public:
  InitClient() = default;
  explicit InitClient(UniqueFd socket) : socket_(std::move(socket)) {}

  int fd() const { return socket_.get(); }
  // Asks init to enable loopback, limits and the filter, and waits for it. Returns the filter's listener, invalid where
  // none could be had.
  Result<UniqueFd> set_up(const InitOptions& options);
  // A socket in the tasks' network namespace, not yet bound or connected.
  Result<UniqueFd> make_socket(int family, int kind);
  // The next task born inside gets this pid, if no task, session or group has it. Returns the last one given so far.
  Result<InsidePid> choose_next_pid(InsidePid pid);
  // The next System V segment of shared memory that a task makes gets this id, where it is free.
  Result<void> choose_next_segment(int id);
  // A child of init that stands still, leads a session of its own, and has no descriptors. It has this pid, if that
  // is free. Exits of the pid that were told so far are forgotten: they are an earlier process's.
  Result<HostTid> make_stub(InsidePid pid);
  // Waits for the answer, which comes within the time of a fork and an exec. Exits seen meanwhile are kept.
  Result<Spawned> spawn(const SpawnRequest& request);
  // Exits that came while an answer was waited for. The socket does not become readable for them again.
  bool has_kept_exits() const { return !kept_exits_.empty(); }
  // One pending exit, kept or read without blocking; nullopt when there is none.
  Result<std::optional<ChildExit>> next_exit();

 private:
  struct Message;
  Result<std::optional<Message>> receive(int timeout_ms) const;
  // The next message that is no exit; exits are kept.
  Result<Message> answer();

  UniqueFd socket_;
  std::vector<ChildExit> kept_exits_;
};

}  // namespace deltabox
