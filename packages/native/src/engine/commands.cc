#include "engine/commands.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <map>

#include "sys/files.h"
#include "tracee/proc_files.h"

namespace deltabox {

namespace {

constexpr std::size_t kSpoolBytes = 1u << 20;  // per background command; the oldest output goes first
constexpr std::size_t kKeptCommands = 256;     // ended commands that can still be asked for
constexpr std::size_t kMaxRunning = 4096;
constexpr std::size_t kMaxInputBytes = 4u << 20;  // waiting for a command that does not read

// Later assignments win, as everybody expects; execve(2) would pass both on, and getenv(3) finds the first.
std::vector<std::string> merge_environment(const google::protobuf::RepeatedPtrField<std::string>& assignments) {
  std::vector<std::string> merged;
  std::map<std::string, std::size_t> places;
  for (const std::string& assignment : assignments) {
    const std::string name = assignment.substr(0, assignment.find('='));
    const auto [place, is_new] = places.emplace(name, merged.size());
    if (is_new) {
      merged.push_back(assignment);
    } else {
      merged[place->second] = assignment;
    }
  }
  return merged;
}

Error rolled_back_error(const Command& command) {
  return make_error(Code::kStaleGeneration, "a rollback ended command " + std::to_string(command.id),
                    "List the commands again, and start it anew if it is still wanted.");
}

}  // namespace

CommandTable::CommandTable(SandboxNamespaces& namespaces, BoundaryPipes& boundary, TerminalTable& terminals,
                           RunningCommands& running, std::uint64_t output_limit)
    : namespaces_(namespaces),
      boundary_(boundary),
      terminals_(terminals),
      running_(running),
      output_limit_(output_limit) {}

Command* CommandTable::find(CommandId id) {
  const auto found = commands_.find(id);
  return found != commands_.end() ? found->second.get() : nullptr;
}

Command* CommandTable::find_by_pid(InsidePid pid) {
  for (auto& [id, command] : commands_) {
    if (command->pid == pid && !command->status) return command.get();
  }
  return nullptr;
}

Result<Command*> CommandTable::find_named(CommandId id, InsidePid pid) {
  Command* command = id != 0 ? find(id) : find_by_pid(pid);
  if (command != nullptr) return command;
  const std::string what = id != 0 ? "no command has the id " + std::to_string(id)
                                   : "no running command has pid " + std::to_string(pid.value);
  return make_error(Code::kCommandNotFound, what, "List the commands.");
}

// A pipe of which one end is the task's and the other the engine's or the client's. Its inode is what tells a capture
// that the pipe leads out.
Result<UniqueFd> CommandTable::boundary_pipe(Command& command, int stream, UniqueFd& task_end) {
  auto [read_end, write_end] = TRY(sys::make_pipe(0));
  const struct stat info = TRY(sys::stat_fd(read_end.get()));
  boundary_.insert(info.st_ino);
  command.pipes[info.st_ino] = stream;
  const bool is_input = stream == 0;
  task_end = std::move(is_input ? read_end : write_end);
  return std::move(is_input ? write_end : read_end);
}

// `ours` gets the ends of stdout, stderr and, if it is open, stdin.
Result<CommandTable::TaskStreams> CommandTable::make_pipes(Command& command, bool open_stdin,
                                                           std::vector<UniqueFd>& ours) {
  TaskStreams streams;
  for (int index = 0; index < 2; ++index) {
    ours.push_back(TRY(boundary_pipe(command, index + 1, streams.output[index])));
  }
  if (open_stdin) {
    ours.push_back(TRY(boundary_pipe(command, 0, streams.input)));
  } else {
    // M1's own /dev/null, so that a capture finds the path again.
    streams.input = TRY(sys::open_at(AT_FDCWD, "/dev/null", O_RDONLY));
  }
  return streams;
}

Result<CommandTable::TaskStreams> CommandTable::make_terminal(Command& command, const v1::TerminalSize& size,
                                                              uid_t owner) {
  const TerminalSize checked = TRY(check_terminal_size(size.cols(), size.rows()));
  Terminal terminal = TRY(open_terminal(namespaces_.m1_root.get(), checked, owner));
  TaskStreams streams;
  for (UniqueFd& output : streams.output) output = TRY(sys::duplicate(terminal.slave.get()));
  streams.input = std::move(terminal.slave);
  command.terminal = true;
  command.stdin_write = TRY(sys::duplicate(terminal.master.get()));
  command.output[0] = std::move(terminal.master);
  return streams;
}

Result<StartedCommand> CommandTable::start(const v1::RunRequest& request, ClientId client,
                                           std::optional<SpawnUser> user) {
  std::size_t running = 0;
  for (const auto& [id, command] : commands_) running += command->status ? 0 : 1;
  if (running >= kMaxRunning) return make_error(Code::kTooLarge, "4,096 commands are running", "End some of them.");
  auto command = std::make_unique<Command>();
  command->id = next_++;
  command->background = request.background() || request.has_terminal();
  command->label = request.label();
  command->user = request.user();
  command->owner = client;
  SpawnRequest spawn;
  spawn.arguments.assign(request.argv().begin(), request.argv().end());
  spawn.environment = merge_environment(request.env());
  spawn.cwd = request.cwd();
  command->arguments = spawn.arguments;
  if (user && user->uid != 0) spawn.user = std::move(user);
  std::vector<UniqueFd> ours;
  TaskStreams streams;
  if (request.has_terminal()) {
    spawn.takes_terminal = true;
    streams = TRY(make_terminal(*command, request.terminal(), spawn.user ? spawn.user->uid : 0));
  } else {
    streams = TRY(make_pipes(*command, request.open_stdin(), ours));
  }
  spawn.stdin_fd = streams.input.get();
  spawn.stdout_fd = streams.output[0].get();
  spawn.stderr_fd = streams.output[1].get();
  const Result<Spawned> spawned = namespaces_.init_client.spawn(spawn);
  if (!spawned.ok()) {
    for (const auto& [inode, stream] : command->pipes) boundary_.erase(inode);
    return spawned.error();
  }
  command->pid = spawned.value().pid;
  command->host_tid = spawned.value().host_tid;
  StartedCommand started;
  if (!command->background) {
    started.client_fds = std::move(ours);
  } else {
    command->followers.insert(client);
    for (UniqueFd& end : ours) ::fcntl(end.get(), F_SETFL, O_NONBLOCK);
    for (std::size_t index = 0; index < ours.size(); ++index) {
      (index < 2 ? command->output[index] : command->stdin_write) = std::move(ours[index]);
    }
  }
  if (command->terminal) terminals_[command->id] = command->output[0].get();
  note_running(*command);
  started.command = command.get();
  commands_[command->id] = std::move(command);
  return started;
}

Result<void> CommandTable::kill(Command& command, int signal) {
  if (signal < 1 || signal > 64) {
    return make_error(Code::kInvalidArgument, "not a signal: " + std::to_string(signal), "Use a number from 1 to 64.");
  }
  if (command.status) return {};
  if (signal == SIGKILL) {
    const int proc_fd = namespaces_.host_proc.get();
    for (const HostTid descendant : descendants_of(proc_fd, command.host_tid)) ::kill(descendant.value, signal);
    // Those whose parent ended hang below init, but are still of the command's session.
    for (const HostTid task : descendants_of(proc_fd, namespaces_.init)) {
      if (::getsid(task.value) == command.host_tid.value) ::kill(task.value, signal);
    }
  }
  if (::kill(-command.host_tid.value, signal) != 0 && errno != ESRCH) return os_error("kill", "command");
  return {};
}

Result<void> CommandTable::end_for_limit(Command& command, const char* limit) {
  if (command.limit.empty()) command.limit = limit;
  return kill(command, SIGKILL);
}

Result<void> CommandTable::queue_input(Command& command, const std::string& data, bool close) {
  if (!command.background) {
    return make_error(Code::kInvalidArgument, "only background commands take input through the engine",
                      "Start the command in the background with its standard input open.");
  }
  if (command.rolled_back) return rolled_back_error(command);
  if (!command.stdin_write || command.closing_input) {
    return make_error(Code::kInvalidArgument, "the command's standard input is closed",
                      "Start the command with its standard input open.");
  }
  if (close && command.terminal) {
    return make_error(Code::kInvalidArgument, "a terminal's input has no end of its own",
                      "Send the byte 0x04 (Ctrl-D), or kill the command.");
  }
  if (!command.input.empty() && command.input.size() + data.size() > kMaxInputBytes) {
    return make_error(Code::kBusy,
                      "the command does not read: " + std::to_string(command.input.size()) + " bytes wait for it",
                      "Send this again when it reads; nothing of it was taken.");
  }
  command.input += data;
  command.closing_input = close;
  return write_input(command);
}

Result<void> CommandTable::write_input(Command& command) {
  std::size_t written = 0;
  while (written < command.input.size()) {
    const ssize_t count =
        ::write(command.stdin_write.get(), command.input.data() + written, command.input.size() - written);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) break;
    if (count < 0) {
      // It closed its end (EPIPE) or hung up (EIO): nobody will read what is left.
      command.input.clear();
      command.stdin_write.reset();
      return make_error(Code::kInvalidArgument, "the command has closed its standard input",
                        "See with the list of commands whether it still runs.");
    }
    written += static_cast<std::size_t>(count);
  }
  command.input.erase(0, written);
  if (command.input.empty() && command.closing_input) {
    command.stdin_write.reset();
    command.input_ended = true;
    if (running_.contains(command.id)) note_running(command);
  }
  return {};
}

Result<void> CommandTable::resize(Command& command, TerminalSize size) {
  if (!command.terminal) {
    return make_error(Code::kInvalidArgument, "command " + std::to_string(command.id) + " has no terminal",
                      "Resize commands that were started on a terminal.");
  }
  if (command.rolled_back) return rolled_back_error(command);
  if (!command.stdin_write) return {};  // it ended: there is nothing left to resize
  return resize_terminal(command.stdin_write.get(), size);
}

void CommandTable::mark_ended(Command& command, int status) {
  command.status = status;
  command.input.clear();
  command.stdin_write.reset();
  running_.erase(command.id);
}

void CommandTable::revive(CommandId id, HostTid leader) {
  Command* command = find(id);
  if (command == nullptr) return;
  command->host_tid = leader;
  command->rolled_back = false;
  command->limit.clear();  // what it was ended for has not happened
  if (command->status) {
    command->status.reset();
    command->background = true;
  }
  // Its end closed the one for input alone.
  if (command->terminal && command->output[0] && !command->stdin_write) {
    Result<UniqueFd> input = sys::duplicate(command->output[0].get());
    if (input.ok()) command->stdin_write = input.release_value();
  }
  note_running(*command);
}

void CommandTable::note_running(const Command& command) {
  running_[command.id] =
      std::make_shared<CommandImage>(CommandImage{command.pid, command.label, command.user, command.arguments,
                                                  command.terminal, command.input_ended, command.pipes});
}

void CommandTable::adopt(const RunningCommands& commands) {
  for (const auto& [id, image] : commands) {
    next_ = std::max(next_, id + 1);
    if (const auto known = commands_.find(id); known != commands_.end()) {
      known->second->pipes.insert(image->pipes.begin(), image->pipes.end());
      continue;
    }
    auto command = std::make_unique<Command>();
    command->id = id;
    command->pid = image->pid;
    command->background = true;
    command->label = image->label;
    command->user = image->user;
    command->arguments = image->arguments;
    command->terminal = image->terminal;
    command->input_ended = image->input_ended;
    command->pipes = image->pipes;
    command->rolled_back = true;  // until a rollback makes it anew
    command->status = 0;
    commands_[id] = std::move(command);
  }
}

Result<UniqueFd> CommandTable::open_stream(std::uint64_t inode) {
  for (auto& [id, command] : commands_) {
    const auto pipe = command->pipes.find(inode);
    if (pipe == command->pipes.end()) continue;
    const int stream = pipe->second;
    UniqueFd& ours = stream == 0 ? command->stdin_write : command->output[stream - 1];
    if (ours) return reopen(namespaces_.self_fd_dir.get(), ours.get(), stream == 0 ? O_RDONLY : O_WRONLY);
    UniqueFd task_end;
    ours = TRY(boundary_pipe(*command, stream, task_end));
    ::fcntl(ours.get(), F_SETFL, O_NONBLOCK);
    if (running_.contains(id)) note_running(*command);
    return task_end;
  }
  return make_error(Code::kCommandNotFound, "its command is not known any more");
}

Result<void> CommandTable::settle_input(std::uint64_t inode, const RunningCommands& target,
                                        const std::function<Result<UniqueFd>()>& take) {
  for (auto& [id, command] : commands_) {
    const auto pipe = command->pipes.find(inode);
    if (pipe == command->pipes.end()) continue;
    // The input of a foreground command is its client's.
    if (pipe->second != 0 || (!command->background && !command->status)) return {};
    const auto then = target.find(id);
    command->input_ended = then != target.end() && then->second->input_ended;
    command->closing_input = command->input_ended;
    if (command->input_ended) {
      command->stdin_write.reset();
    } else if (!command->stdin_write) {
      const UniqueFd task_end = TRY(take());
      command->stdin_write = TRY(reopen(namespaces_.self_fd_dir.get(), task_end.get(), O_WRONLY | O_NONBLOCK));
    }
    if (running_.contains(id)) note_running(*command);
    return {};
  }
  return {};
}

Result<void> CommandTable::keep_terminal(CommandId id, UniqueFd master) {
  Command* command = find(id);
  if (command == nullptr) return make_error(Code::kCommandNotFound, "its command is not known any more");
  command->terminal = true;
  command->stdin_write = TRY(sys::duplicate(master.get()));
  command->output[0] = std::move(master);
  terminals_[id] = command->output[0].get();
  return {};
}

void CommandTable::give_up_terminal(int number) {
  for (auto& [id, command] : commands_) {
    int own = -1;
    if (!command->terminal || !command->output[0]) continue;
    if (::ioctl(command->output[0].get(), TIOCGPTN, &own) != 0 || own != number) continue;
    while (read_output(*command, 0)) {
    }
    close_output(*command, 0);
    command->stdin_write.reset();
  }
}

void CommandTable::close_output(Command& command, int stream_index) {
  command.output[stream_index].reset();
  if (command.terminal && stream_index == 0) terminals_.erase(command.id);
}

void CommandTable::client_left(ClientId client) {
  for (auto& [id, command] : commands_) {
    command->followers.erase(client);
    if (!command->background && command->owner == client && !command->status) (void)kill(*command, SIGKILL);
  }
}

std::optional<SpoolChunk> CommandTable::read_output(Command& command, int stream_index) {
  UniqueFd& output = command.output[stream_index];
  char buffer[65536];
  const ssize_t count = ::read(output.get(), buffer, sizeof buffer);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return std::nullopt;
  if (count <= 0) {
    close_output(command, stream_index);
    return std::nullopt;
  }
  auto size = static_cast<std::size_t>(count);
  const std::uint64_t printed = command.stream_bytes[0] + command.stream_bytes[1];
  if (output_limit_ > 0 && size > output_limit_ - printed) {
    size = output_limit_ - printed;
    (void)end_for_limit(command, "outputBytes");
    // What outlives the command and still prints gets SIGPIPE, or on a terminal SIGHUP.
    for (const int index : {0, 1}) close_output(command, index);
    if (size == 0) return std::nullopt;
  }
  SpoolChunk chunk{static_cast<std::uint32_t>(stream_index + 1), std::string(buffer, size), 0, 0};
  command.stream_bytes[stream_index] += chunk.data.size();
  chunk.end_offset = command.stream_bytes[stream_index];
  command.spooled_bytes += chunk.data.size();
  command.spool.push_back(chunk);
  while (command.spooled_bytes > kSpoolBytes) {
    const std::size_t lost = command.spool.front().data.size();
    command.spooled_bytes -= lost;
    command.dropped_bytes += lost;
    command.spool.pop_front();
  }
  return chunk;
}

void CommandTable::forget_old() {
  std::size_t ended = 0;
  for (const auto& [id, command] : commands_) ended += command->status ? 1 : 0;
  for (auto entry = commands_.begin(); entry != commands_.end() && ended > kKeptCommands;) {
    Command& command = *entry->second;
    if (!command.status || command.output[0] || command.output[1]) {
      ++entry;
      continue;
    }
    // A left-over child may still hold a pipe of a foreground command; its inode number stays known until then, which
    // is why only the oldest commands are forgotten.
    for (const auto& [inode, stream] : command.pipes) boundary_.erase(inode);
    entry = commands_.erase(entry);
    --ended;
  }
}

}  // namespace deltabox
