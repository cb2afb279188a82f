#include "engine/command_requests.h"

#include "engine/convert.h"
#include "engine/users.h"

namespace deltabox {

namespace {

// After a command's end: more than a pipe holds; a left-over child that goes on printing must not hold the engine.
constexpr int kLastReads = 32;

v1::EngineFrame empty_answer() {
  v1::EngineFrame answer;
  answer.mutable_empty();
  return answer;
}

}  // namespace

CommandRequests::CommandRequests(SandboxState& state, Clients& clients, const std::vector<std::string>& environment,
                                 const std::string& cwd, std::uint64_t output_limit)
    : state_(state),
      clients_(clients),
      environment_(environment),
      cwd_(cwd),
      table_(state.namespaces(), state.boundary_pipes(), state.terminals(), state.running_commands(), output_limit) {
  state.set_boundary_streams(
      {[this](std::uint64_t inode) { return table_.open_stream(inode); },
       [this](std::uint64_t inode, const RunningCommands& target, const std::function<Result<UniqueFd>()>& take) {
         return table_.settle_input(inode, target, take);
       }});
  state.set_terminal_keeper(
      {[this](CommandId id, UniqueFd master) { return table_.keep_terminal(id, std::move(master)); },
       [this](int number) { table_.give_up_terminal(number); }});
  state.set_command_adopter([this](const RunningCommands& commands) { table_.adopt(commands); });
}

std::optional<Result<v1::EngineFrame>> CommandRequests::handle(Client& client, const v1::ClientFrame& request,
                                                               std::vector<UniqueFd>& fds) {
  const auto on_command = [&](CommandId id, int pid, auto action) -> Result<v1::EngineFrame> {
    Command* command = TRY(table_.find_named(id, InsidePid{pid}));
    TRY(action(*command));
    return empty_answer();
  };
  switch (request.request_case()) {
    case v1::ClientFrame::kRun:
      return run(client, request.run(), fds);
    case v1::ClientFrame::kAttachCommand:
      return attach(client, request.attach_command());
    case v1::ClientFrame::kListCommands: {
      v1::EngineFrame answer;
      answer.mutable_commands();
      for (const auto& [id, command] : table_.all()) fill(*answer.mutable_commands()->add_commands(), *command);
      return answer;
    }
    case v1::ClientFrame::kKillCommand: {
      const v1::KillCommandRequest& kill = request.kill_command();
      return on_command(kill.command_id(), kill.pid(), [&](Command& command) {
        return kill.output_limit() ? table_.end_for_limit(command, "outputBytes") : table_.kill(command, kill.signal());
      });
    }
    case v1::ClientFrame::kStdin: {
      const v1::StdinRequest& input = request.stdin();
      return on_command(input.command_id(), input.pid(),
                        [&](Command& command) { return table_.queue_input(command, input.data(), input.close()); });
    }
    case v1::ClientFrame::kResize: {
      const v1::ResizeRequest& resize = request.resize();
      return on_command(resize.command_id(), resize.pid(), [&](Command& command) -> Result<void> {
        return table_.resize(command, TRY(check_terminal_size(resize.size().cols(), resize.size().rows())));
      });
    }
    default:
      return std::nullopt;
  }
}

Result<v1::EngineFrame> CommandRequests::run(Client& client, const v1::RunRequest& request,
                                             std::vector<UniqueFd>& fds) {
  v1::RunRequest full = request;
  full.clear_env();
  for (const std::string& variable : environment_) full.add_env(variable);
  std::optional<SpawnUser> user;
  if (!request.user().empty()) {
    const SandboxNamespaces& namespaces = state_.namespaces();
    SandboxUser found = TRY(find_user(namespaces.m1_root.get(), namespaces.host_proc.get(), request.user()));
    full.add_env("HOME=" + found.home);
    full.add_env("USER=" + found.name);
    full.add_env("LOGNAME=" + found.name);
    full.set_user(found.name);
    user = std::move(found.ids);
  }
  for (const std::string& variable : request.env()) full.add_env(variable);
  if (full.cwd().empty()) full.set_cwd(cwd_);
  StartedCommand started = TRY(table_.start(full, client.id(), std::move(user)));
  fds = std::move(started.client_fds);
  v1::EngineFrame answer;
  answer.mutable_run()->set_command_id(started.command->id);
  answer.mutable_run()->set_pid(started.command->pid.value);
  return answer;
}

Result<v1::EngineFrame> CommandRequests::attach(Client& client, const v1::AttachCommandRequest& request) {
  Command* command = TRY(table_.find_named(request.command_id(), InsidePid{request.pid()}));
  if (!command->background) {
    return make_error(Code::kInvalidArgument,
                      "command " + std::to_string(command->id) + " runs in the foreground of another client",
                      "Connect to background commands and terminals only.");
  }
  follow(client, *command);
  return empty_answer();
}

void CommandRequests::follow(Client& client, Command& command) {
  command.followers.insert(client.id());
  std::uint64_t dropped = command.dropped_bytes;
  for (SpoolChunk chunk : command.spool) {
    chunk.dropped_before = std::exchange(dropped, 0);
    v1::EngineFrame event;
    fill(*event.mutable_command_output(), command, chunk);
    client.send(event);
  }
  if (!command.status) return;
  v1::EngineFrame event;
  fill(*event.mutable_command_exited(), command);
  client.send(event);
}

// While a follower does not keep up, the command's output stays in its pipe: it goes on when the follower does, or is
// given up (Client::give_up_if_stuck).
bool CommandRequests::is_held_back(const Command& command) const {
  for (const ClientId follower : command.followers) {
    const auto client = clients_.find(follower);
    if (client != clients_.end() && client->second->is_congested()) return true;
  }
  return false;
}

void CommandRequests::add_sources(PollSet& sources, Result<void>& failure) {
  // Those that came between the questions and answers of another call: the socket tells of them no more.
  if (state_.namespaces().init_client.has_kept_exits()) failure = collect_exits();
  for (const auto& [id, command] : table_.all()) {
    const bool held_back = is_held_back(*command);
    for (int stream = 0; stream < 2; ++stream) {
      if (!command->output[stream] || held_back) continue;
      sources.add(command->output[stream].get(), POLLIN, [this, id = id, stream](short) {
        Command* ready = table_.find(id);
        if (ready != nullptr && ready->output[stream]) read_output(*ready, stream);
      });
    }
    if (command->input.empty()) continue;
    sources.add(command->stdin_write.get(), POLLOUT, [this, id = id](short) {
      Command* ready = table_.find(id);
      // One that closed its end is told so at the next call.
      if (ready != nullptr && ready->stdin_write) (void)table_.write_input(*ready);
    });
  }
  sources.add(state_.namespaces().init_client.fd(), POLLIN, [this, &failure](short) {
    Result<void> collected = collect_exits();
    if (!collected.ok()) failure = std::move(collected);
  });
}

void CommandRequests::read_output(Command& command, int stream_index) {
  const std::optional<SpoolChunk> chunk = table_.read_output(command, stream_index);
  if (!chunk) return;
  v1::EngineFrame event;
  fill(*event.mutable_command_output(), command, *chunk);
  for (const ClientId follower : command.followers) {
    const auto client = clients_.find(follower);
    if (client != clients_.end()) client->second->send(event);
  }
}

Result<void> CommandRequests::collect_exits() {
  for (;;) {
    const std::optional<ChildExit> exit = TRY(state_.namespaces().init_client.next_exit());
    if (!exit) return {};
    Command* command = table_.find_by_pid(exit->pid);
    if (command == nullptr) continue;  // an orphan that init inherited
    table_.mark_ended(*command, exit->status);
    for (int stream = 0; stream < 2; ++stream) {
      for (int round = 0; round < kLastReads && command->output[stream]; ++round) {
        const std::uint64_t before = command->stream_bytes[stream];
        read_output(*command, stream);
        if (command->stream_bytes[stream] == before) break;
      }
    }
    announce_exit(*command);
  }
}

void CommandRequests::announce_exit(const Command& command) {
  v1::EngineFrame event;
  fill(*event.mutable_command_exited(), command);
  std::set<ClientId> recipients = command.followers;
  recipients.insert(command.owner);
  for (const ClientId recipient : recipients) {
    const auto client = clients_.find(recipient);
    if (client != clients_.end()) client->second->send(event);
  }
}

void CommandRequests::end_for_limit(const char* limit) {
  for (const auto& [id, command] : table_.all()) {
    if (!command->status) (void)table_.end_for_limit(*command, limit);
  }
}

void CommandRequests::mark_rolled_back(const std::vector<InsidePid>& ended) {
  for (const InsidePid pid : ended) {
    Command* command = table_.find_by_pid(pid);
    if (command != nullptr) command->rolled_back = true;
  }
}

void CommandRequests::mark_restored(const std::map<CommandId, HostTid>& restored) {
  for (const auto& [id, leader] : restored) table_.revive(id, leader);
}

std::size_t CommandRequests::running() const {
  std::size_t count = 0;
  for (const auto& [id, command] : table_.all()) count += command->status ? 0 : 1;
  return count;
}

}  // namespace deltabox
