#include "sandbox/init_client.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "sandbox/init/init_abi.h"
#include "sys/sockets.h"

namespace deltabox {

namespace {

using init_abi::Reply;
using init_abi::Stage;
using init_abi::Type;

constexpr int kAnswerTimeoutMs = 30'000;  // a stuck file system can delay an exec; beyond this init is taken for dead

}  // namespace

struct InitClient::Message {
  Reply reply;
  pid_t host_pid = 0;
  std::vector<UniqueFd> fds;
};

Result<std::optional<InitClient::Message>> InitClient::receive(int timeout_ms) const {
  pollfd waiting{socket_.get(), POLLIN, 0};
  int ready;
  do {
    ready = ::poll(&waiting, 1, timeout_ms);
  } while (ready < 0 && errno == EINTR);
  if (ready == 0) return std::optional<Message>();
  Message message;
  sys::Received received = TRY(sys::receive_with_fds(socket_.get(), &message.reply, sizeof message.reply));
  if (received.size_bytes != sizeof message.reply) return make_error(Code::kInternal, "the sandbox's init is gone");
  message.host_pid = received.sender_pid;
  message.fds = std::move(received.fds);
  return std::optional<Message>(std::move(message));
}

Result<InitClient::Message> InitClient::answer() {
  for (;;) {
    std::optional<Message> message = TRY(receive(kAnswerTimeoutMs));
    if (!message) return make_error(Code::kInternal, "the sandbox's init does not answer");
    if (message->reply.type != Type::kExited) return std::move(*message);
    kept_exits_.push_back({InsidePid{message->reply.pid}, message->reply.status});
  }
}

namespace {

Error spawn_error(const Reply& reply, const SpawnRequest& request) {
  Error error;
  switch (reply.stage) {
    case Stage::kChdir:
      error = os_error_from(reply.status, "chdir", request.cwd);
      error.next_step = "Give a working directory that exists inside the sandbox.";
      break;
    case Stage::kExec:
      error = os_error_from(reply.status, "exec", request.arguments[0]);
      if (reply.status == ENOENT || reply.status == ENOTDIR) error.code = Code::kCommandNotFound;
      error.next_step = "Check that the program exists inside the sandbox and is executable.";
      break;
    case Stage::kTerminal:
      error = os_error_from(reply.status, "ioctl", "TIOCSCTTY");
      break;
    case Stage::kUser:
      error = os_error_from(reply.status, "setresuid", request.arguments[0]);
      break;
    default:
      error = os_error_from(reply.status, "spawn", request.arguments[0]);
      break;
  }
  return error;
}

Error unexpected_message() { return make_error(Code::kInternal, "unexpected message from the sandbox's init"); }

// Init is inside, so what it hands over is checked like all that it says.
Result<void> check_socket(int fd, int family, int kind) {
  int value = 0;
  socklen_t length = sizeof value;
  if (::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &value, &length) != 0 || value != family) {
    return make_error(Code::kInternal, "the sandbox's init handed over something else than the socket asked for");
  }
  if (::getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &length) != 0 || value != (kind & ~SOCK_NONBLOCK)) {
    return make_error(Code::kInternal, "the sandbox's init handed over a socket of another type");
  }
  return {};
}

}  // namespace

Result<UniqueFd> InitClient::set_up(const InitOptions& options) {
  const int enabled = 1;
  if (::setsockopt(socket_.get(), SOL_SOCKET, SO_PASSCRED, &enabled, sizeof enabled) != 0) {
    return os_error("setsockopt", "SO_PASSCRED");
  }
  init_abi::SetUpRequest request;
  request.own_network = options.own_network ? 1 : 0;
  request.open_files = options.open_files;
  request.processes = options.processes;
  request.file_bytes = options.file_bytes;
  TRY(sys::send_with_fds(socket_.get(), &request, sizeof request));
  Message message = TRY(answer());
  if (message.reply.type == Type::kReady) {
    return message.fds.empty() ? UniqueFd() : std::move(message.fds[0]);
  }
  static constexpr const char* kStages[] = {"", "sethostname", "loopback up", "namespace limits", "seccomp filter"};
  const auto stage = static_cast<std::size_t>(message.reply.stage);
  const char* subject = stage < std::size(kStages) ? kStages[stage] : "resource limits";
  return os_error_from(message.reply.status, "init set-up", subject);
}

Result<UniqueFd> InitClient::make_socket(int family, int kind) {
  init_abi::SocketRequest request;
  request.family = family;
  request.kind = kind;
  TRY(sys::send_with_fds(socket_.get(), &request, sizeof request));
  Message message = TRY(answer());
  if (message.reply.type == Type::kFailed) return os_error_from(message.reply.status, "socket");
  if (message.reply.type != Type::kSocket || message.fds.size() != 1) return unexpected_message();
  TRY(check_socket(message.fds[0].get(), family, kind));
  return std::move(message.fds[0]);
}

Result<InsidePid> InitClient::choose_next_pid(InsidePid pid) {
  const init_abi::NextPidRequest request{Type::kNextPid, pid.value};
  TRY(sys::send_with_fds(socket_.get(), &request, sizeof request));
  const Message message = TRY(answer());
  if (message.reply.type == Type::kFailed) return os_error_from(message.reply.status, "choosing a pid");
  if (message.reply.type != Type::kNextPid) return unexpected_message();
  return InsidePid{message.reply.pid};
}

Result<void> InitClient::choose_next_segment(int id) {
  const init_abi::NextPidRequest request{Type::kNextSegment, id};
  TRY(sys::send_with_fds(socket_.get(), &request, sizeof request));
  const Message message = TRY(answer());
  if (message.reply.type == Type::kFailed) return os_error_from(message.reply.status, "choosing the id of a segment");
  if (message.reply.type != Type::kNextSegment) return unexpected_message();
  return {};
}

Result<HostTid> InitClient::make_stub(InsidePid pid) {
  const init_abi::NextPidRequest request{Type::kStub, pid.value};
  TRY(sys::send_with_fds(socket_.get(), &request, sizeof request));
  const Message message = TRY(answer());
  if (message.reply.type == Type::kFailed) return os_error_from(message.reply.status, "making a process");
  if (message.reply.type != Type::kSpawned) return unexpected_message();
  // Whose exits were told before is an earlier process with this number.
  std::erase_if(kept_exits_, [&](const ChildExit& exit) { return exit.pid == pid; });
  return HostTid{message.host_pid};
}

Result<Spawned> InitClient::spawn(const SpawnRequest& request) {
  if (request.arguments.empty()) return make_error(Code::kInvalidArgument, "a command needs at least one argument");
  init_abi::SpawnHeader header{};
  header.type = Type::kSpawn;
  header.argument_count = static_cast<std::uint32_t>(request.arguments.size());
  header.environment_count = static_cast<std::uint32_t>(request.environment.size());
  header.takes_terminal = request.takes_terminal ? 1 : 0;
  if (request.user) {
    header.changes_user = 1;
    header.uid = request.user->uid;
    header.gid = request.user->gid;
    header.group_count =
        static_cast<std::uint32_t>(std::min<std::size_t>(request.user->groups.size(), init_abi::kMaxGroups));
    std::copy_n(request.user->groups.begin(), header.group_count, header.groups);
  }
  std::string packet(reinterpret_cast<const char*>(&header), sizeof header);
  const auto append = [&](const std::string& text) { packet.append(text.c_str(), text.size() + 1); };
  append(request.cwd);
  for (const auto* list : {&request.arguments, &request.environment}) {
    for (const std::string& text : *list) {
      if (text.find('\0') != std::string::npos) {
        return make_error(Code::kInvalidArgument, "arguments and environment must not contain NUL bytes");
      }
      append(text);
    }
  }
  if (packet.size() > init_abi::kMaxMessageBytes ||
      request.arguments.size() + request.environment.size() > init_abi::kMaxStrings) {
    return make_error(Code::kTooLarge, "arguments and environment together exceed 192 KiB or 8,192 entries",
                      "Write long input to a file or to standard input.");
  }
  TRY(sys::send_with_fds(socket_.get(), packet.data(), packet.size(),
                         {request.stdin_fd, request.stdout_fd, request.stderr_fd}));
  const Message message = TRY(answer());
  if (message.reply.type == Type::kFailed) return spawn_error(message.reply, request);
  if (message.reply.type != Type::kSpawned) return unexpected_message();
  return Spawned{InsidePid{message.reply.pid}, HostTid{message.host_pid}};
}

Result<std::optional<ChildExit>> InitClient::next_exit() {
  if (!kept_exits_.empty()) {
    const ChildExit exit = kept_exits_.front();
    kept_exits_.erase(kept_exits_.begin());
    return std::optional<ChildExit>(exit);
  }
  std::optional<Message> message = TRY(receive(0));
  if (!message) return std::optional<ChildExit>();
  if (message->reply.type != Type::kExited) return unexpected_message();
  return std::optional<ChildExit>(ChildExit{InsidePid{message->reply.pid}, message->reply.status});
}

}  // namespace deltabox
