#include "engine/server.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>

#include "base/clock.h"
#include "engine/convert.h"
#include "engine/metrics.h"
#include "engine/sandbox_tree.h"
#include "sys/files.h"
#include "tracee/proc_files.h"

namespace deltabox {

namespace {

constexpr std::size_t kMaxClients = 256;
constexpr int kLateThreadPollMs = 1;
constexpr int kQuietMs = 5;  // after which nobody is likely to wait for work of our own
constexpr int kMakeSpaceMs = 2000;
constexpr const char* kEndedMark = "ended";  // in the store
constexpr int kTickMs = 500;                 // for time-outs and clients that do not read
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

Server::Server(std::unique_ptr<SandboxState> state, SandboxIdentity identity, SandboxNetwork network,
               SandboxLimits limits, std::unique_ptr<DiskLimit> disk, UniqueFd listener, int allowed_peer_uid)
    : state_(std::move(state)),
      identity_(std::move(identity)),
      network_(std::move(network)),
      limits_(std::move(limits)),
      disk_(std::move(disk)),
      listener_(std::move(listener)),
      allowed_peer_uid_(allowed_peer_uid),
      commands_(*state_, clients_, identity_.environment, identity_.workspace_mount, limits_.output_bytes()),
      files_(state_->namespaces(), clients_),
      started_ms_(now_ms()),
      last_activity_ms_(started_ms_) {}

void Server::adopt_creator(UniqueFd socket, std::uint64_t request_id) {
  const ClientId id = next_client_++;
  auto client = std::make_unique<Client>(id, std::move(socket));
  v1::EngineFrame answer;
  answer.set_request_id(request_id);
  answer.set_generation(generation_);
  fill_info(*answer.mutable_info());
  client->send(answer);
  clients_[id] = std::move(client);
  creator_ = id;
}

Result<void> Server::begin_from(const std::string& checkpoint, bool hold) {
  TRY(bring_over(checkpoint, {.redo = false, .hold = hold}));
  return {};
}

Result<RollbackOutcome> Server::bring_over(const std::string& checkpoint, const RollbackOptions& options) {
  TRY(state_->warm_up(checkpoint));  // a rollback would go on with the files alone
  RollbackOutcome outcome = TRY(state_->rollback(checkpoint, options));
  commands_.mark_restored(outcome.restored_commands);
  for (const Notice& lost : outcome.not_restored) {
    identity_.warnings.push_back("not brought over from " + checkpoint + ": " + lost.kind +
                                 (lost.pid != 0 ? " of pid " + std::to_string(lost.pid) : "") + ": " + lost.reason);
  }
  return outcome;
}

void Server::go_on_after_engine(bool processes) {
  constexpr const char* kEnded = "the engine of this sandbox had ended; ";
  const std::string head = state_->tree().head();
  const Result<const Checkpoint*> checkpoint = state_->tree().find(head);
  if (processes && checkpoint.ok() && checkpoint.value()->cold) {
    const Result<RollbackOutcome> outcome = bring_over(head, {});
    if (outcome.ok()) {
      identity_.warnings.push_back(kEnded + ("files and processes are those of checkpoint " + head) +
                                   ", the files as they were last are those of " + outcome.value().safety_checkpoint);
      return;
    }
    identity_.warnings.push_back("the processes of " + head + " can't be brought back: " + outcome.error().describe());
  }
  std::string newest;
  for (const auto& other : state_->tree().all()) {
    if (other->cold && other->id != head) newest = other->id;
  }
  identity_.warnings.push_back(
      kEnded + std::string("its files are back, its processes are gone") +
      (newest.empty() ? "" : "; a rollback to " + newest + " brings back those that it has on the disk"));
}

Result<void> Server::run() {
  while (!killed_) {
    if (settle_needed_) {
      settle_needed_ = false;
      state_->settle();
    }
    Freezer& freezer = state_->freezer();
    if (freezer.has_late_threads()) freezer.release_late_threads();
    disk_->start_if_due(now_ms());
    const bool may_stage = state_->next_rollback_is_due();
    const int wait_ms = may_stage ? kQuietMs : tick_ms();
    const int happened = TRY(serve_round(freezer.has_late_threads() ? kLateThreadPollMs : wait_ms));
    if (happened == 0 && may_stage) state_->stage_next_rollback();
    if (const char* reason = timed_out()) {
      std::fprintf(stderr, "%s\n", reason);
      return discard(reason);
    }
  }
  return {};
}

// After it nothing of this engine changes the store, which others remove once they are told.
void Server::end_sandbox() {
  state_->end_held();
  end_all_tasks(state_->namespaces().init);
  state_->end_background();
}

// The engine can't remove the sandbox's directory, which is the client's; it leaves a mark there, by which the next
// client knows that nobody wants it any more (packages/core/src/state/ended.ts), and gives the disk's space back at
// once.
Result<void> Server::discard(const char* reason) {
  end_sandbox();
  const SandboxNamespaces& namespaces = state_->namespaces();
  TRY(sys::write_file_at(namespaces.store.get(), kEndedMark, reason));
  if (state_->has_lent()) return {};  // forks use the layers
  for (const char* part : {"layers", "bases"}) {
    TRY(remove_contents(TRY(sys::open_at(namespaces.store.get(), part, O_RDONLY | O_DIRECTORY))));
  }
  return {};
}

// -1: nothing has to be looked at while nothing happens.
int Server::tick_ms() const {
  const int disk_ms = disk_->wait_ms(now_ms());
  const int tick_ms = disk_ms >= 0 && disk_ms < kTickMs ? disk_ms : kTickMs;
  if (identity_.idle_timeout_ms > 0 || identity_.orphan_timeout_ms > 0) return tick_ms;
  for (const auto& [id, client] : clients_) {
    if (client->has_unsent()) return tick_ms;
  }
  return disk_ms;
}

const char* Server::timed_out() const {
  if (state_->is_held() && !clients_.contains(creator_)) return "its creator left before its processes went on";
  if (!clients_.empty()) return nullptr;
  const std::uint64_t quiet_ms = now_ms() - last_activity_ms_;
  if (identity_.orphan_timeout_ms > 0 && quiet_ms > identity_.orphan_timeout_ms) return "ended by its orphan time-out";
  if (identity_.idle_timeout_ms == 0 || commands_.running() > 0) return nullptr;
  return quiet_ms > identity_.idle_timeout_ms ? "ended by its idle time-out" : nullptr;
}

Result<int> Server::serve_round(int timeout_ms) {
  PollSet sources;
  Result<void> failure;
  commands_.add_sources(sources, failure);
  if (network_.control_fd() >= 0) {
    sources.add(network_.control_fd(), POLLIN, [this](short) { network_.read_control(); });
  }
  for (const auto& [id, client] : clients_) {
    const short events = client->has_unsent() ? POLLIN | POLLOUT : POLLIN;
    sources.add(client->fd(), events, [this, id = id](short ready) {
      Client* found = client_of(id);
      if (found == nullptr || killed_) return;
      if ((ready & POLLOUT) != 0) found->send_rest();
      if ((ready & ~POLLOUT) != 0) serve_client(*found);
    });
  }
  sources.add(listener_.get(), POLLIN, [this](short) {
    if (!killed_) accept_client();
  });
  files_.add_sources(sources);
  if (disk_->ended_fd() >= 0) sources.add(disk_->ended_fd(), POLLIN, [this](short) { disk_measured(); });
  sources.add(state_->background_fd(), POLLIN, [this](short) { state_->finish_background(); });
  if (state_->budget() != nullptr && state_->budget()->woken_fd() >= 0) {
    sources.add(state_->budget()->woken_fd(), POLLIN, [this](short) { state_->budget_changed(); });
  }
  sources.add(state_->renames().death_fd(), POLLIN, [this, &failure](short) {
    if (failure.ok() && !killed_) failure = state_->renames().revive();
  });
  const int ready = ::poll(sources.fds().data(), sources.fds().size(), timeout_ms);
  if (ready < 0 && errno != EINTR) return os_error("poll");
  if (ready > 0) sources.serve();
  files_.send_events();
  drop_broken_clients();
  commands_.forget_old();
  TRY(std::move(failure));
  return ready;
}

void Server::accept_client() {
  UniqueFd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!socket) return;
  ucred peer{};
  socklen_t length = sizeof peer;
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return;
  // The socket's directory and mode admit only its owner; this is the second lock.
  if (static_cast<int>(peer.uid) != allowed_peer_uid_) {
    refuse_client(std::move(socket), make_error(Code::kPermissionDenied, "another user made this sandbox",
                                                "Call as the user who made it."));
    return;
  }
  if (clients_.size() >= kMaxClients) {
    refuse_client(std::move(socket), make_error(Code::kBusy, "the sandbox has 256 clients, the most it takes",
                                                "Close some of them, then connect again."));
    return;
  }
  const ClientId id = next_client_++;
  clients_[id] = std::make_unique<Client>(id, std::move(socket));
}

// An answer to no request: the client takes it as the reason why the connection ends.
void Server::refuse_client(UniqueFd socket, const Error& reason) {
  Client refused(0, std::move(socket));
  v1::EngineFrame answer;
  fill(*answer.mutable_failure(), reason);
  refused.send(answer);
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
  if (!open) drop_client(id);
}

void Server::drop_broken_clients() {
  std::vector<ClientId> broken;
  for (const auto& [id, client] : clients_) {
    client->give_up_if_stuck(now_ms());
    if (client->is_broken()) broken.push_back(id);
  }
  for (const ClientId id : broken) drop_client(id);
}

void Server::drop_client(ClientId id) {
  commands_.client_left(id);
  files_.client_left(id);
  clients_.erase(id);
  last_activity_ms_ = now_ms();
}

Client* Server::client_of(ClientId id) {
  const auto found = clients_.find(id);
  return found != clients_.end() ? found->second.get() : nullptr;
}

void Server::handle(Client& client, Frame frame) {
  v1::ClientFrame request;
  v1::EngineFrame reply;
  std::vector<UniqueFd> fds;
  CommandId joined = 0;
  if (!request.ParseFromString(frame.payload)) {
    fill(*reply.mutable_failure(), make_error(Code::kProtocol, "a frame could not be parsed"));
  } else {
    Result<v1::EngineFrame> answered = answer(client, request, frame, fds, joined);
    if (answered.ok()) {
      reply = answered.release_value();
    } else {
      fill(*reply.mutable_failure(), answered.error());
    }
  }
  reply.set_request_id(request.request_id());
  reply.set_generation(generation_);
  client.send(reply, std::move(fds));
  if (Command* command = commands_.find(joined)) commands_.follow(client, *command);
}

// `joined`: the command that a first call with the same idempotency key has started.
Result<v1::EngineFrame> Server::answer(Client& client, const v1::ClientFrame& request, Frame& frame,
                                       std::vector<UniqueFd>& fds, CommandId& joined) {
  const bool has_key = !request.idempotency_key().empty();
  if (has_key) {
    if (const v1::EngineFrame* first = TRY(answered_calls_.find(request))) {
      if (first->has_run()) joined = first->run().command_id();
      return *first;
    }
  }
  if (request.expected_generation() != 0 && request.expected_generation() != generation_) {
    return make_error(Code::kStaleGeneration, "the sandbox was rolled back since you last looked",
                      "Look again, then decide: list the commands and checkpoints.");
  }
  Result<v1::EngineFrame> result = dispatch(client, request, frame, fds);
  if (has_key) {
    v1::EngineFrame kept;
    if (result.ok()) {
      kept = result.value();
    } else {
      fill(*kept.mutable_failure(), result.error());
    }
    answered_calls_.keep(request, kept);
  }
  return result;
}

Result<v1::EngineFrame> Server::dispatch(Client& client, const v1::ClientFrame& request, Frame& frame,
                                         std::vector<UniqueFd>& fds) {
  TRY(check_disk(request, frame));
  v1::EngineFrame answer;
  switch (request.request_case()) {
    case v1::ClientFrame::kInfo:
      fill_info(*answer.mutable_info());
      return answer;
    case v1::ClientFrame::kCheckpoint:
      return take_checkpoint(request.checkpoint());
    case v1::ClientFrame::kRollback:
      return roll_back(request.rollback());
    case v1::ClientFrame::kListCheckpoints:
      return list_checkpoints();
    case v1::ClientFrame::kDeleteCheckpoint:
      TRY(state_->delete_checkpoint(request.delete_checkpoint().target()));
      answer.mutable_empty();
      return answer;
    case v1::ClientFrame::kLend: {
      const LentCheckpoint lent = TRY(state_->lend(request.lend().target()));
      answer.mutable_lent()->set_checkpoint_id(lent.id);
      answer.mutable_lent()->set_last_layer(lent.last_layer);
      answer.mutable_lent()->set_processes(lent.processes);
      return answer;
    }
    case v1::ClientFrame::kPin:
      TRY(state_->pin(request.pin().target(), request.pin().pinned()));
      settle_needed_ = true;
      answer.mutable_empty();
      return answer;
    case v1::ClientFrame::kThaw:
      state_->thaw();
      answer.mutable_empty();
      return answer;
    case v1::ClientFrame::kMetrics:
      TRY(fill_metrics(*state_, *answer.mutable_metrics()));
      answer.mutable_metrics()->set_uptime_ms(now_ms() - started_ms_);
      answer.mutable_metrics()->set_clients(clients_.size());
      answer.mutable_metrics()->set_running_commands(commands_.running());
      return answer;
    case v1::ClientFrame::kConnectPort:
      fds.push_back(TRY(connect_to_port(state_->namespaces().init_client, request.connect_port().port())));
      answer.mutable_port_connected();
      return answer;
    case v1::ClientFrame::kKillSandbox:
      killed_ = true;
      end_sandbox();
      answer.mutable_empty();
      return answer;
    default: {
      std::optional<Result<v1::EngineFrame>> handled = commands_.handle(client, request, fds);
      if (!handled) handled = files_.handle(client, request, frame, fds);
      if (handled) return std::move(*handled);
      return make_error(Code::kProtocol, "unknown request");
    }
  }
}

Result<void> Server::check_disk(const v1::ClientFrame& request, const Frame& frame) {
  std::uint64_t bytes = 0;
  switch (request.request_case()) {
    case v1::ClientFrame::kWriteFile:
    case v1::ClientFrame::kAppendWrite:
      if (frame.fds.size() == 1) {
        const struct stat contents = TRY(sys::stat_fd(frame.fds[0].get()));
        bytes = static_cast<std::uint64_t>(contents.st_blocks) * 512;
      }
      break;
    case v1::ClientFrame::kRun:
    case v1::ClientFrame::kCheckpoint:
    case v1::ClientFrame::kMakeDir:
    case v1::ClientFrame::kBeginWrite:
      break;
    default:
      return {};
  }
  if (!disk_->has_room(bytes)) {
    // Space may have been made since the last measurement; what was removed with a checkpoint is being given back.
    state_->wait_for_store(kMakeSpaceMs);
    disk_->measure_now();
    if (!disk_->has_room(bytes)) return disk_->no_space();
  }
  disk_->add_written(bytes);
  disk_->watch();
  return {};
}

// As the kernel does when memory is out, but with all of them: whoever wrote may have left its command.
void Server::disk_measured() {
  disk_->finish(now_ms(), state_->live_processes() > 0);
  if (!disk_->is_over()) return;
  commands_.end_for_limit("diskBytes");
  const SandboxNamespaces& namespaces = state_->namespaces();
  const std::vector<HostTid> tasks = descendants_of(namespaces.host_proc.get(), namespaces.init);
  for (const HostTid task : tasks) ::kill(task.value, SIGKILL);
  disk_->count_ended(tasks.size());
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
  info.set_orphan_timeout_ms(identity_.orphan_timeout_ms);
  for (const std::string& warning : identity_.warnings) info.add_warnings(warning);
  if (!state_->compares_memory_because().empty()) {
    info.add_warnings("checkpoints compare all memory of the processes instead of tracking what they write: " +
                      state_->compares_memory_because());
  }
  if (!state_->renames().available()) {
    info.add_warnings(
        "directories of the project or of a checkpoint can't be renamed inside (EXDEV), mv copies them: the seccomp "
        "filter of a surrounding container has a listener already");
  }
  fill_network(info, network_, identity_.network_allow);
  limits_.fill_info(info);
  disk_->fill_info(info);
  for (const auto& [key, value] : identity_.metadata) (*info.mutable_metadata())[key] = value;
}

Result<v1::EngineFrame> Server::take_checkpoint(const v1::CheckpointRequest& request) {
  settle_needed_ = true;
  CheckpointOptions options;
  options.name = request.name();
  options.strict = request.strict();
  options.pinned = request.pinned();
  options.metadata.insert(request.metadata().begin(), request.metadata().end());
  options.before_thaw = [this] { files_.volumes_switched(); };
  const Checkpoint* checkpoint = TRY(state_->checkpoint(options));
  v1::EngineFrame answer;
  fill(*answer.mutable_checkpoint(), *checkpoint);
  return answer;
}

Result<v1::EngineFrame> Server::roll_back(const v1::RollbackRequest& request) {
  settle_needed_ = true;
  Result<RollbackOutcome> outcome = state_->rollback(request.target(), {!request.no_redo(), request.strict()});
  if (!outcome.ok()) {
    // Most change nothing, but one that fails half way may have switched volumes.
    files_.volumes_switched();
    return outcome.release_error();
  }
  files_.rolled_back();
  ++generation_;
  commands_.mark_rolled_back(outcome.value().ended_processes);
  commands_.mark_restored(outcome.value().restored_commands);
  v1::EngineFrame event;
  event.set_generation(generation_);
  event.mutable_rolled_back()->set_checkpoint_id(outcome.value().checkpoint);
  event.mutable_rolled_back()->set_safety_checkpoint_id(outcome.value().safety_checkpoint);
  broadcast(event);
  report_closed_connections(network_, outcome.value());
  v1::EngineFrame answer;
  fill(*answer.mutable_rollback(), outcome.value());
  return answer;
}

Result<v1::EngineFrame> Server::list_checkpoints() const {
  v1::EngineFrame answer;
  answer.mutable_checkpoints()->set_head(state_->tree().head());
  for (const auto& checkpoint : state_->tree().all()) {
    v1::Checkpoint& message = *answer.mutable_checkpoints()->add_checkpoints();
    fill(message, *checkpoint);
    message.set_durable(state_->is_durable(checkpoint->id));
  }
  return answer;
}

void Server::broadcast(const v1::EngineFrame& frame) {
  for (const auto& [id, client] : clients_) client->send(frame);
}

}  // namespace deltabox
