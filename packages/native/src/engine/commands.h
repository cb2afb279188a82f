// The commands that clients started: their streams, their ends.
//
// A foreground command's streams travel to its client as descriptors, and the command dies with its client. A
// background command's streams end here, in a bounded spool, so that it outlives its client and never sees a SIGPIPE
// because of one; so does the master of a command on a terminal, which gets no SIGHUP when its client dies. What is
// sent to a command that does not read waits in a bounded queue; the engine waits for no command.
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
#include "deltacr/terminals.h"
#include "engine/client.h"
#include "engine/terminal.h"
#include "sandbox/namespaces.h"

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
  std::string user;  // empty: root
  std::vector<std::string> arguments;
  ClientId owner = 0;
  std::set<ClientId> followers;
  std::optional<int> status;  // once ended
  bool rolled_back = false;
  std::string limit;  // the limit of the sandbox that it reached and was ended for; empty: none
  // background only
  bool terminal = false;
  UniqueFd stdin_write;  // of a terminal: its master
  std::string input;     // not taken by the command yet
  bool closing_input = false;
  bool input_ended = false;  // closing_input, once all was taken
  UniqueFd output[2];        // read ends of stdout, stderr; of a terminal: its master, in the first
  std::deque<SpoolChunk> spool;
  std::size_t spooled_bytes = 0;
  std::uint64_t dropped_bytes = 0;
  std::uint64_t stream_bytes[2] = {};
  std::map<std::uint64_t, int> pipes;  // inodes; 1, 2: output, 0: input
};

// Foreground streams for the client.
struct StartedCommand {
  Command* command = nullptr;
  std::vector<UniqueFd> client_fds;
};

class CommandTable {
 public:
  // output_limit: bytes that a command may print over its life; 0: no limit.
  CommandTable(SandboxNamespaces& namespaces, BoundaryPipes& boundary, TerminalTable& terminals,
               RunningCommands& running, std::uint64_t output_limit);

  // `user`: none or uid 0 for root.
  Result<StartedCommand> start(const v1::RunRequest& request, ClientId client, std::optional<SpawnUser> user);
  Command* find(CommandId id);
  // By its id, or with id 0 the running command with this pid.
  Result<Command*> find_named(CommandId id, InsidePid pid);
  Command* find_by_pid(InsidePid pid);
  const std::map<CommandId, std::unique_ptr<Command>>& all() const { return commands_; }
  // To the command's process group; SIGKILL also to every descendant and to all of its session.
  Result<void> kill(Command& command, int signal);
  // Ends it because it reached a limit of the sandbox, which its end then names.
  Result<void> end_for_limit(Command& command, const char* limit);
  // Takes all of the data or, with BUSY, none.
  Result<void> queue_input(Command& command, const std::string& data, bool close);
  // Writes what the command takes now.
  Result<void> write_input(Command& command);
  Result<void> resize(Command& command, TerminalSize size);
  void mark_ended(Command& command, int status);
  // Of an image that another engine wrote: a rollback to it may revive them. Those of this engine are known already.
  void adopt(const RunningCommands& commands);
  // A rollback made the command's first process anew. It goes on as a background command: whoever waited for it was
  // told of its end, and its streams end here.
  void revive(CommandId id, HostTid leader);
  // The task's end of a stream of a command, by the inode of the pipe that it was: the same pipe where its other end
  // is still here, else a new one.
  Result<UniqueFd> open_stream(std::uint64_t inode);
  // Opens or closes our end of a command's input, as it was at a checkpoint whose running commands are `target`.
  // `take`: a task's end of it.
  Result<void> settle_input(std::uint64_t inode, const RunningCommands& target,
                            const std::function<Result<UniqueFd>()>& take);
  // The master end of the command's terminal, which was made anew.
  Result<void> keep_terminal(CommandId id, UniqueFd master);
  // A rollback ended the command that has /dev/pts/<number>, which another one needs.
  void give_up_terminal(int number);
  // Ends the client's foreground commands and forgets it as a follower.
  void client_left(ClientId client);
  // Reads what a background command wrote; nullopt when there is nothing. At the end the descriptor is closed. What is
  // beyond the limit of output ends the command and is dropped.
  std::optional<SpoolChunk> read_output(Command& command, int stream_index);
  void forget_old();

 private:
  struct TaskStreams {
    UniqueFd input;
    UniqueFd output[2];
  };
  void note_running(const Command& command);
  void close_output(Command& command, int stream_index);
  Result<UniqueFd> boundary_pipe(Command& command, int stream, UniqueFd& task_end);
  Result<TaskStreams> make_pipes(Command& command, bool open_stdin, std::vector<UniqueFd>& ours);
  Result<TaskStreams> make_terminal(Command& command, const v1::TerminalSize& size, uid_t owner);

  SandboxNamespaces& namespaces_;
  BoundaryPipes& boundary_;
  TerminalTable& terminals_;
  RunningCommands& running_;  // what captures note
  std::uint64_t output_limit_;
  std::map<CommandId, std::unique_ptr<Command>> commands_;
  CommandId next_ = 1;
};

}  // namespace deltabox
