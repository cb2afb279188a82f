#include "engine/commands.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "sys/files.h"
#include "tracee/proc_files.h"

namespace deltabox {

namespace {

constexpr std::size_t kSpoolBytes = 1u << 20;  // per background command; the oldest output goes first
constexpr std::size_t kKeptCommands = 256;     // ended commands that can still be asked for
constexpr std::size_t kMaxRunning = 4096;
constexpr int kStdinTimeoutMs = 1000;  // a command that does not read must not hold the engine

}  // namespace

CommandTable::CommandTable(InitClient& init, BoundaryPipes& boundary, int proc_fd)
    : init_(init), boundary_(boundary), proc_fd_(proc_fd) {}

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

// A pipe of which one end is the task's and the other the engine's or the client's. Its inode is what tells a capture
// that the pipe leads out.
Result<UniqueFd> CommandTable::boundary_pipe(Command& command, bool engine_reads, UniqueFd& task_end) {
  auto [read_end, write_end] = TRY(sys::make_pipe(0));
  const struct stat info = TRY(sys::stat_fd(read_end.get()));
  boundary_.insert(info.st_ino);
  command.pipe_inodes.push_back(info.st_ino);
  UniqueFd& ours = engine_reads ? read_end : write_end;
  task_end = std::move(engine_reads ? write_end : read_end);
  return std::move(ours);
}

Result<StartedCommand> CommandTable::start(const v1::RunRequest& request, ClientId client) {
  std::size_t running = 0;
  for (const auto& [id, command] : commands_) running += command->status ? 0 : 1;
  if (running >= kMaxRunning) return make_error(Code::kTooLarge, "4,096 commands are running", "End some of them.");
  auto command = std::make_unique<Command>();
  command->id = next_++;
  command->background = request.background();
  command->label = request.label();
  command->owner = client;
  SpawnRequest spawn;
  spawn.arguments.assign(request.argv().begin(), request.argv().end());
  spawn.environment.assign(request.env().begin(), request.env().end());
  spawn.cwd = request.cwd();
  command->arguments = spawn.arguments;
  UniqueFd task_stdin;
  UniqueFd task_output[2];
  UniqueFd our_stdin;
  UniqueFd our_output[2];
  if (request.open_stdin()) {
    our_stdin = TRY(boundary_pipe(*command, false, task_stdin));
  } else {
    // M1's own /dev/null, so that a capture finds the path again.
    task_stdin = TRY(sys::open_at(AT_FDCWD, "/dev/null", O_RDONLY));
  }
  for (int index = 0; index < 2; ++index) our_output[index] = TRY(boundary_pipe(*command, true, task_output[index]));
  spawn.stdin_fd = task_stdin.get();
  spawn.stdout_fd = task_output[0].get();
  spawn.stderr_fd = task_output[1].get();
  const Spawned spawned = TRY(init_.spawn(spawn));
  command->pid = spawned.pid;
  command->host_tid = spawned.host_tid;
  StartedCommand started;
  if (command->background) {
    command->stdin_write = std::move(our_stdin);
    if (command->stdin_write) ::fcntl(command->stdin_write.get(), F_SETFL, O_NONBLOCK);
    for (int index = 0; index < 2; ++index) {
      ::fcntl(our_output[index].get(), F_SETFL, O_NONBLOCK);
      command->output[index] = std::move(our_output[index]);
    }
    command->followers.insert(client);
  } else {
    for (UniqueFd& output : our_output) started.client_fds.push_back(std::move(output));
    if (our_stdin) started.client_fds.push_back(std::move(our_stdin));
  }
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
    for (const HostTid descendant : descendants_of(proc_fd_, command.host_tid)) ::kill(descendant.value, signal);
  }
  if (::kill(-command.host_tid.value, signal) != 0 && errno != ESRCH) return os_error("kill", "command");
  return {};
}

Result<void> CommandTable::write_stdin(Command& command, const std::string& data, bool close) {
  if (!command.background) {
    return make_error(Code::kInvalidArgument, "only background commands take input through the engine",
                      "Start the command in the background with its standard input open.");
  }
  if (!command.stdin_write) {
    return make_error(Code::kInvalidArgument, "the command's standard input is closed",
                      "Start the command with its standard input open.");
  }
  std::size_t written = 0;
  while (written < data.size()) {
    const ssize_t count = ::write(command.stdin_write.get(), data.data() + written, data.size() - written);
    if (count >= 0) {
      written += static_cast<std::size_t>(count);
      continue;
    }
    if (errno == EINTR) continue;
    if (errno != EAGAIN) return os_error("write", "standard input");
    pollfd waiting{command.stdin_write.get(), POLLOUT, 0};
    if (::poll(&waiting, 1, kStdinTimeoutMs) == 0) {
      return make_error(Code::kBusy,
                        "the command took " + std::to_string(written) + " of " + std::to_string(data.size()) +
                            " bytes and does not read on",
                        "Send the rest when it reads again.");
    }
  }
  if (close) command.stdin_write.reset();
  return {};
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
    output.reset();
    return std::nullopt;
  }
  SpoolChunk chunk{static_cast<std::uint32_t>(stream_index + 1), std::string(buffer, static_cast<std::size_t>(count)),
                   0, 0};
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
    for (const std::uint64_t inode : command.pipe_inodes) boundary_.erase(inode);
    entry = commands_.erase(entry);
    --ended;
  }
}

}  // namespace deltabox
