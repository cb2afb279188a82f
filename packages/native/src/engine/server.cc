#include "engine/server.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "base/clock.h"
#include "engine/convert.h"
#include "engine/sandbox_files.h"
#include "sys/sockets.h"

namespace deltabox {

namespace {

constexpr std::size_t kMaxClients = 256;
constexpr int kSendTimeoutS = 5;
constexpr int kLateThreadPollMs = 1;
constexpr int kIdlePollMs = 500;
constexpr int kEndTimeoutMs = 30'000;  // a task in an uninterruptible wait can't be killed; the client gives up at 60 s

// The end of init is the end of every task; returns when the kernel has taken all of them down. Tasks that are still
// attached keep their pid namespace until their tracer collects them, so everything is collected, not init alone.
void end_all_tasks(HostTid init) {
  ::kill(init.value, SIGKILL);
  for (int waited_ms = 0; waited_ms < kEndTimeoutMs;) {
    const pid_t collected = ::waitpid(-1, nullptr, __WALL | WNOHANG);
    if (collected == init.value || (collected < 0 && errno == ECHILD)) return;
    if (collected != 0) continue;
    ::usleep(1000);
    ++waited_ms;
  }
}

std::uint64_t now_ms() { return monotonic_ns() / 1'000'000; }

}  // namespace

Server::Server(std::unique_ptr<SandboxState> state, SandboxIdentity identity, UniqueFd listener, int allowed_peer_uid)
    : state_(std::move(state)),
      identity_(std::move(identity)),
      listener_(std::move(listener)),
      allowed_peer_uid_(allowed_peer_uid),
      commands_(state_->namespaces().init_client, state_->boundary_pipes(), state_->namespaces().host_proc.get()),
      last_activity_ms_(now_ms()) {}

void Server::adopt_creator(UniqueFd socket, std::uint64_t request_id) {
  const ClientId id = next_client_++;
  auto client = std::make_unique<Client>(id, std::move(socket));
  v1::EngineFrame answer;
  answer.set_request_id(request_id);
  answer.set_generation(generation_);
  fill_info(*answer.mutable_info());
  client->send(answer);
  clients_[id] = std::move(client);
}

Result<void> Server::run() {
  while (!killed_) {
    if (settle_needed_) {
      settle_needed_ = false;
      state_->settle();
    }
    Freezer& freezer = state_->freezer();
    if (freezer.has_late_threads()) freezer.release_late_threads();
    int timeout_ms = identity_.idle_timeout_ms > 0 ? kIdlePollMs : -1;
    if (freezer.has_late_threads()) timeout_ms = kLateThreadPollMs;
    TRY(serve_round(timeout_ms));
    if (idle_too_long()) return {};
  }
  return {};
}

bool Server::idle_too_long() const {
  if (identity_.idle_timeout_ms == 0 || !clients_.empty()) return false;
  for (const auto& [id, command] : commands_.all()) {
    if (!command->status) return false;
  }
  return now_ms() - last_activity_ms_ > identity_.idle_timeout_ms;
}

Result<void> Server::serve_round(int timeout_ms) {
  struct Source {
    ClientId client = 0;
    CommandId command = 0;
    int stream = 0;
  };
  std::vector<pollfd> waiting{{listener_.get(), POLLIN, 0}, {state_->namespaces().init_client.fd(), POLLIN, 0}};
  std::vector<Source> sources(2);
  for (const auto& [id, client] : clients_) {
    waiting.push_back({client->fd(), POLLIN, 0});
    sources.push_back({id, 0, 0});
  }
  for (const auto& [id, command] : commands_.all()) {
    for (int stream = 0; stream < 2; ++stream) {
      if (!command->output[stream]) continue;
      waiting.push_back({command->output[stream].get(), POLLIN, 0});
      sources.push_back({0, id, stream});
    }
  }
  const int ready = ::poll(waiting.data(), waiting.size(), timeout_ms);
  if (ready < 0 && errno != EINTR) return os_error("poll");
  if (ready <= 0) return {};
  // Output before exits, so that a command's last words come before its end.
  for (std::size_t index = 2; index < waiting.size(); ++index) {
    if (waiting[index].revents == 0 || sources[index].command == 0) continue;
    Command* command = commands_.find(sources[index].command);
    if (command != nullptr) read_command_output(*command, sources[index].stream);
  }
  if (waiting[1].revents != 0) TRY(collect_exits());
  for (std::size_t index = 2; index < waiting.size() && !killed_; ++index) {
    if (waiting[index].revents == 0 || sources[index].client == 0) continue;
    Client* client = client_of(sources[index].client);
    if (client != nullptr) serve_client(*client);
  }
  if (waiting[0].revents != 0 && !killed_) accept_client();
  commands_.forget_old();
  return {};
}

void Server::accept_client() {
  UniqueFd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!socket || clients_.size() >= kMaxClients) return;
  ucred peer{};
  socklen_t length = sizeof peer;
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return;
  // The socket's directory and mode admit only its owner; this is the second lock.
  if (static_cast<int>(peer.uid) != allowed_peer_uid_) return;
  const timeval timeout{kSendTimeoutS, 0};
  ::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
  const ClientId id = next_client_++;
  clients_[id] = std::make_unique<Client>(id, std::move(socket));
}

void Server::serve_client(Client& client) {
  const ClientId id = client.id();
  std::vector<Frame> frames;
  const bool open = client.receive(frames);
  last_activity_ms_ = now_ms();
  for (Frame& frame : frames) {
    if (killed_) return;
    handle(client, std::move(frame));
  }
  if (!open || client.is_broken()) drop_client(id);
}

void Server::drop_client(ClientId id) {
  commands_.client_left(id);
  clients_.erase(id);
  last_activity_ms_ = now_ms();
}

Client* Server::client_of(ClientId id) {
  const auto found = clients_.find(id);
  return found != clients_.end() ? found->second.get() : nullptr;
}

void Server::handle(Client& client, Frame frame) {
  v1::ClientFrame request;
  v1::EngineFrame answer;
  std::vector<UniqueFd> fds;
  if (!request.ParseFromString(frame.payload)) {
    fill(*answer.mutable_failure(), make_error(Code::kProtocol, "a frame could not be parsed"));
  } else if (request.expected_generation() != 0 && request.expected_generation() != generation_) {
    fill(*answer.mutable_failure(),
         make_error(Code::kStaleGeneration, "the sandbox was rolled back since this handle was made",
                    "Get fresh handles: list the commands again."));
  } else {
    Result<v1::EngineFrame> result = dispatch(client, request, frame, fds);
    if (result.ok()) {
      answer = result.release_value();
    } else {
      fill(*answer.mutable_failure(), result.error());
    }
  }
  answer.set_request_id(request.request_id());
  answer.set_generation(generation_);
  std::vector<int> raw_fds;
  for (const UniqueFd& fd : fds) raw_fds.push_back(fd.get());
  client.send(answer, raw_fds);
}

Result<v1::EngineFrame> Server::dispatch(Client& client, const v1::ClientFrame& request, Frame& frame,
                                         std::vector<UniqueFd>& fds) {
  v1::EngineFrame answer;
  switch (request.request_case()) {
    case v1::ClientFrame::kInfo:
      fill_info(*answer.mutable_info());
      return answer;
    case v1::ClientFrame::kRun:
      return run_command(client, request.run(), fds);
    case v1::ClientFrame::kAttachCommand:
      return attach_command(client, request.attach_command());
    case v1::ClientFrame::kCheckpoint:
      return take_checkpoint(request.checkpoint());
    case v1::ClientFrame::kRollback:
      return roll_back(request.rollback());
    case v1::ClientFrame::kListCheckpoints:
      return list_checkpoints();
    case v1::ClientFrame::kListCommands:
      answer.mutable_commands();
      for (const auto& [id, command] : commands_.all()) fill(*answer.mutable_commands()->add_commands(), *command);
      return answer;
    case v1::ClientFrame::kKillCommand:
    case v1::ClientFrame::kStdin: {
      const bool is_kill = request.request_case() == v1::ClientFrame::kKillCommand;
      const CommandId id = is_kill ? request.kill_command().command_id() : request.stdin().command_id();
      Command* command = commands_.find(id);
      if (command == nullptr) {
        return make_error(Code::kCommandNotFound, "no command has the id " + std::to_string(id), "List the commands.");
      }
      if (is_kill) {
        TRY(commands_.kill(*command, request.kill_command().signal()));
      } else {
        TRY(commands_.write_stdin(*command, request.stdin().data(), request.stdin().close()));
      }
      answer.mutable_empty();
      return answer;
    }
    case v1::ClientFrame::kReadFile: {
      OpenedFile file = TRY(open_for_reading(state_->namespaces().m1_root.get(), request.read_file().path()));
      answer.mutable_read_file()->set_size_bytes(file.size_bytes);
      answer.mutable_read_file()->set_mode(file.mode);
      fds.push_back(std::move(file.fd));
      return answer;
    }
    case v1::ClientFrame::kWriteFile: {
      if (frame.fds.size() != 1) return make_error(Code::kProtocol, "write_file needs one descriptor");
      const v1::WriteFileRequest& write = request.write_file();
      TRY(write_whole_file(state_->namespaces().m1_root.get(), write.path(), frame.fds[0].get(), write.mode(),
                           write.make_parents()));
      answer.mutable_empty();
      return answer;
    }
    case v1::ClientFrame::kKillSandbox:
      killed_ = true;
      end_all_tasks(state_->namespaces().init);
      answer.mutable_empty();
      return answer;
    default:
      return make_error(Code::kProtocol, "unknown request");
  }
}

void Server::fill_info(v1::SandboxInfo& info) const {
  info.set_id(identity_.id);
  info.set_workspace(identity_.workspace);
  info.set_workspace_mount(identity_.workspace_mount);
  info.set_created_at_ms(identity_.created_at_ms);
  info.set_engine_pid(static_cast<std::uint32_t>(::getpid()));
  info.set_init_pid(static_cast<std::uint32_t>(state_->namespaces().init.value));
  info.set_head(state_->tree().head());
  info.set_checkpoints(state_->tree().all().size());
  info.set_tasks(state_->live_processes());
  info.set_page_store_bytes(state_->page_store_bytes());
  info.set_idle_timeout_ms(identity_.idle_timeout_ms);
  for (const std::string& warning : identity_.warnings) info.add_warnings(warning);
  for (const auto& [key, value] : identity_.metadata) (*info.mutable_metadata())[key] = value;
}

Result<v1::EngineFrame> Server::run_command(Client& client, const v1::RunRequest& request, std::vector<UniqueFd>& fds) {
  v1::RunRequest full = request;
  full.clear_env();
  for (const std::string& variable : identity_.environment) full.add_env(variable);
  for (const std::string& variable : request.env()) full.add_env(variable);
  if (full.cwd().empty()) full.set_cwd(identity_.workspace_mount);
  StartedCommand started = TRY(commands_.start(full, client.id()));
  fds = std::move(started.client_fds);
  v1::EngineFrame answer;
  answer.mutable_run()->set_command_id(started.command->id);
  answer.mutable_run()->set_pid(started.command->pid.value);
  return answer;
}

Result<v1::EngineFrame> Server::attach_command(Client& client, const v1::AttachCommandRequest& request) {
  Command* command = commands_.find(request.command_id());
  if (command == nullptr || !command->background) {
    return make_error(Code::kCommandNotFound,
                      "no background command has the id " + std::to_string(request.command_id()), "List the commands.");
  }
  command->followers.insert(client.id());
  std::uint64_t dropped = command->dropped_bytes;
  for (SpoolChunk chunk : command->spool) {
    chunk.dropped_before = std::exchange(dropped, 0);
    v1::EngineFrame event;
    fill(*event.mutable_command_output(), *command, chunk);
    client.send(event);
  }
  if (command->status) {
    v1::EngineFrame event;
    fill(*event.mutable_command_exited(), *command);
    client.send(event);
  }
  v1::EngineFrame answer;
  answer.mutable_empty();
  return answer;
}

Result<v1::EngineFrame> Server::take_checkpoint(const v1::CheckpointRequest& request) {
  settle_needed_ = true;
  CheckpointOptions options;
  options.name = request.name();
  options.strict = request.strict();
  options.metadata.insert(request.metadata().begin(), request.metadata().end());
  const Checkpoint* checkpoint = TRY(state_->checkpoint(options));
  v1::EngineFrame answer;
  fill(*answer.mutable_checkpoint(), *checkpoint);
  return answer;
}

Result<v1::EngineFrame> Server::roll_back(const v1::RollbackRequest& request) {
  settle_needed_ = true;
  Result<RollbackOutcome> outcome = state_->rollback(request.target(), {!request.no_redo(), request.strict()});
  if (!outcome.ok()) return outcome.release_error();
  ++generation_;
  for (const InsidePid pid : outcome.value().ended_processes) {
    Command* command = commands_.find_by_pid(pid);
    if (command != nullptr) command->rolled_back = true;
  }
  v1::EngineFrame event;
  event.set_generation(generation_);
  event.mutable_rolled_back()->set_checkpoint_id(outcome.value().checkpoint);
  event.mutable_rolled_back()->set_safety_checkpoint_id(outcome.value().safety_checkpoint);
  broadcast(event);
  v1::EngineFrame answer;
  fill(*answer.mutable_rollback(), outcome.value());
  return answer;
}

Result<v1::EngineFrame> Server::list_checkpoints() const {
  v1::EngineFrame answer;
  answer.mutable_checkpoints()->set_head(state_->tree().head());
  for (const auto& checkpoint : state_->tree().all())
    fill(*answer.mutable_checkpoints()->add_checkpoints(), *checkpoint);
  return answer;
}

void Server::read_command_output(Command& command, int stream_index) {
  const std::optional<SpoolChunk> chunk = commands_.read_output(command, stream_index);
  if (!chunk) return;
  v1::EngineFrame event;
  event.set_generation(generation_);
  fill(*event.mutable_command_output(), command, *chunk);
  for (const ClientId follower : command.followers) {
    Client* client = client_of(follower);
    if (client != nullptr) client->send(event);
  }
}

Result<void> Server::collect_exits() {
  for (;;) {
    const std::optional<ChildExit> exit = TRY(state_->namespaces().init_client.next_exit());
    if (!exit) return {};
    Command* command = commands_.find_by_pid(exit->pid);
    if (command == nullptr) continue;  // an orphan that init inherited
    command->status = exit->status;
    for (int stream = 0; stream < 2; ++stream) {
      while (command->output[stream]) {
        const std::size_t before = command->spooled_bytes + command->dropped_bytes;
        read_command_output(*command, stream);
        if (command->spooled_bytes + command->dropped_bytes == before) break;
      }
    }
    command->stdin_write.reset();
    announce_exit(*command);
  }
}

void Server::announce_exit(const Command& command) {
  v1::EngineFrame event;
  event.set_generation(generation_);
  fill(*event.mutable_command_exited(), command);
  std::set<ClientId> recipients = command.followers;
  recipients.insert(command.owner);
  for (const ClientId recipient : recipients) {
    Client* client = client_of(recipient);
    if (client != nullptr) client->send(event);
  }
}

void Server::broadcast(const v1::EngineFrame& frame) {
  for (const auto& [id, client] : clients_) client->send(frame);
}

}  // namespace deltabox
