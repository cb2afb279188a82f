// The commands that clients started: their streams, their ends.
//
// A foreground command's streams travel to its client as descriptors, and the command dies with its client. A
// background command's streams end here, in a bounded spool, so that it outlives its client and never sees a SIGPIPE
// because of one.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "deltabox.pb.h"
#include "deltacr/descriptors.h"
#include "engine/client.h"
#include "sandbox/init_client.h"

namespace deltabox {

using CommandId = std::uint64_t;

struct SpoolChunk {
  std::uint32_t stream = 1;  // 1 stdout, 2 stderr
  std::string data;
  std::uint64_t dropped_before = 0;
  std::uint64_t end_offset = 0;  // bytes of its stream since the command's start, this chunk included
};

struct Command {
  CommandId id = 0;
  InsidePid pid;
  HostTid host_tid;
  bool background = false;
  std::string label;
  std::vector<std::string> arguments;
  ClientId owner = 0;
  std::set<ClientId> followers;
  std::optional<int> status;  // once ended
  bool rolled_back = false;
  // background only
  UniqueFd stdin_write;
  UniqueFd output[2];  // read ends of stdout, stderr
  std::deque<SpoolChunk> spool;
  std::size_t spooled_bytes = 0;
  std::uint64_t dropped_bytes = 0;
  std::uint64_t stream_bytes[2] = {};
  std::vector<std::uint64_t> pipe_inodes;
};

// Foreground streams for the client.
struct StartedCommand {
  Command* command = nullptr;
  std::vector<UniqueFd> client_fds;
};

class CommandTable {
 public:
  CommandTable(InitClient& init, BoundaryPipes& boundary, int proc_fd);

  Result<StartedCommand> start(const v1::RunRequest& request, ClientId client);
  Command* find(CommandId id);
  Command* find_by_pid(InsidePid pid);
  const std::map<CommandId, std::unique_ptr<Command>>& all() const { return commands_; }
  // To the command's process group; SIGKILL also to every descendant.
  Result<void> kill(Command& command, int signal);
  Result<void> write_stdin(Command& command, const std::string& data, bool close);
  // Ends the client's foreground commands and forgets it as a follower.
  void client_left(ClientId client);
  // Reads what a background command wrote; nullopt when there is nothing. At the end the descriptor is closed.
  std::optional<SpoolChunk> read_output(Command& command, int stream_index);
  void forget_old();

 private:
  Result<UniqueFd> boundary_pipe(Command& command, bool engine_reads, UniqueFd& task_end);

  InitClient& init_;
  BoundaryPipes& boundary_;
  int proc_fd_;
  std::map<CommandId, std::unique_ptr<Command>> commands_;
  CommandId next_ = 1;
};

}  // namespace deltabox
