#include "engine/serve.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstring>
#include <optional>

#include "engine/convert.h"
#include "engine/limits.h"
#include "engine/network.h"
#include "engine/paths.h"
#include "engine/server.h"
#include "sandbox/id_map.h"
#include "sandbox/namespaces.h"
#include "sandbox/proxy_launcher.h"
#include "sys/files.h"

namespace deltabox {

namespace {

constexpr int kCreatorFd = 3;
constexpr int kRequestTimeoutMs = 10'000;
constexpr std::uint32_t kOverflowUid = 65534;  // how an id without a mapping looks in a user namespace

// The volumes of `rootfs: 'host'`, siblings all. What a program may write lies on one of them, so that it is rolled
// back.
std::vector<VolumeSpec> host_volumes(const std::string& workspace_mount) {
  return {
      {"workspace", workspace_mount, 0755, 0, {}},
      {"tmp", "/tmp", 01777, -1, {}},
      {"root", "/root", 0700, -1, {}},
      {"home", "/home", 0755, -1, {}},
      {"run", "/run", 0755, -1, {"lock"}},
      {"var", "/var", 0755, -1, {"tmp", "log", "lib", "cache", "spool"}},
      {"shm", "/dev/shm", 01777, -1, {}},
  };
}

struct Creation {
  std::uint64_t request_id = 0;
  v1::CreateRequest request;
};

Result<Creation> receive_creation(Client& creator) {
  std::vector<Frame> frames;
  while (frames.empty()) {
    pollfd waiting{creator.fd(), POLLIN, 0};
    if (::poll(&waiting, 1, kRequestTimeoutMs) <= 0) return make_error(Code::kProtocol, "no creation request came");
    if (!creator.receive(frames) && frames.empty()) return make_error(Code::kProtocol, "the creator left");
  }
  v1::ClientFrame frame;
  if (!frame.ParseFromString(frames[0].payload) || !frame.has_create()) {
    return make_error(Code::kProtocol, "the first frame of an engine must be a creation request");
  }
  return Creation{frame.request_id(), frame.create()};
}

Result<UniqueFd> listen_in(const std::string& state_dir) {
  // A relative name: the directory's path may be longer than a socket address.
  if (::chdir(state_dir.c_str()) != 0) return os_error("chdir", state_dir);
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return os_error("socket");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, "engine.sock", sizeof address.sun_path - 1);
  const mode_t previous = ::umask(0177);
  const int bound = ::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address);
  ::umask(previous);
  if (bound != 0) return os_error("bind", state_dir + "/engine.sock");
  if (::listen(socket.get(), 64) != 0) return os_error("listen");
  return socket;
}

Result<void> check_workspace(const std::string& workspace) {
  struct stat info {};
  if (::stat(workspace.c_str(), &info) != 0) {
    Error error = os_error("stat", workspace);
    error.next_step = "Give an existing directory as workspace.";
    return error;
  }
  if (!S_ISDIR(info.st_mode)) {
    return make_error(Code::kNotADirectory, "the workspace is not a directory: " + workspace, "Give a directory.");
  }
  return {};
}

Result<void> check_mount_point(const std::string& path, const std::vector<VolumeSpec>& volumes) {
  const bool well_formed = path.size() > 1 && path[0] == '/' && path.back() != '/' &&
                           path.find("//") == std::string::npos && path.find("/.") == std::string::npos &&
                           path.size() < 256;
  if (!well_formed) {
    return make_error(Code::kInvalidArgument, "not a mount point: " + path.substr(0, 300),
                      "Give an absolute, plain path.");
  }
  for (const char* reserved : {"/usr", "/etc", "/dev", "/proc", "/sys", "/opt", "/bin", "/sbin", "/lib", "/lib64"}) {
    if (path == reserved || path.starts_with(std::string(reserved) + "/")) {
      return make_error(Code::kInvalidArgument, path + " lies in a system directory", "Choose another mount point.");
    }
  }
  for (const VolumeSpec& volume : volumes) {
    if (volume.base >= 0) continue;
    if (path == volume.path || path.starts_with(volume.path + "/")) {
      return make_error(Code::kInvalidArgument, path + " lies in the volume " + volume.path,
                        "Choose another mount point.");
    }
  }
  return {};
}

Result<std::unique_ptr<SandboxState>> build(const v1::CreateRequest& request, const IdMap& id_map, NetworkMode network,
                                            const SandboxLimits& limits) {
  TRY(check_workspace(request.workspace()));
  const std::vector<VolumeSpec> volumes = host_volumes(request.workspace_mount());
  TRY(check_mount_point(request.workspace_mount(), volumes));
  NamespaceConfig config;
  config.id_map = id_map;
  config.bases = {request.workspace()};
  config.store = request.state_dir() + "/store";
  config.init_binary = TRY(init_binary_path());
  for (const VolumeSpec& volume : volumes) config.volume_paths.push_back(volume.path);
  config.init_options.own_network = network != NetworkMode::kHost;
  config.skeleton.host_network = network == NetworkMode::kHost;
  for (int index = 0; index < request.certificate_files_size(); ++index) {
    const std::string path = std::string(kCertificatePoint) + "/" + std::to_string(index) + ".pem";
    config.binds.push_back({request.certificate_files(index), path, false});
  }
  limits.configure(config);
  TRY(sys::make_dir_at(AT_FDCWD, config.store, 0700));
  if (::chown(config.store.c_str(), id_map.outside_uid, id_map.outside_gid) != 0)
    return os_error("chown", config.store);
  SandboxNamespaces namespaces = TRY(build_namespaces(config));
  return SandboxState::create(std::move(namespaces), volumes);
}

// While the engine still has the host's tree and ids: the proxy keeps both.
Result<std::optional<ProxyLauncher>> start_launcher(const v1::CreateRequest& request, NetworkMode network) {
  if (network != NetworkMode::kAllow) return std::optional<ProxyLauncher>();
  const std::vector<std::string> command(request.proxy_command().begin(), request.proxy_command().end());
  return std::optional<ProxyLauncher>(TRY(ProxyLauncher::start(command)));
}

Result<void> serve_creation(const Creation& creation, UniqueFd creator_socket) {
  UniqueFd listener = TRY(listen_in(creation.request.state_dir()));
  const IdMap id_map = TRY(choose_id_map());
  SandboxLimits limits = TRY(SandboxLimits::create(creation.request.limits(), creation.request.id()));
  SandboxNetwork network(TRY(parse_network_mode(creation.request.network())));
  std::optional<ProxyLauncher> proxy = TRY(start_launcher(creation.request, network.mode()));
  std::unique_ptr<SandboxState> state = TRY(build(creation.request, id_map, network.mode(), limits));
  if (proxy) TRY(network.start_proxy(std::move(*proxy), state->namespaces().init_client));
  SandboxIdentity identity;
  identity.id = creation.request.id();
  identity.workspace = creation.request.workspace();
  identity.workspace_mount = creation.request.workspace_mount();
  identity.created_at_ms = creation.request.created_at_ms();
  identity.idle_timeout_ms = creation.request.idle_timeout_ms();
  identity.orphan_timeout_ms = creation.request.orphan_timeout_ms();
  identity.metadata.insert(creation.request.metadata().begin(), creation.request.metadata().end());
  identity.environment.assign(creation.request.env().begin(), creation.request.env().end());
  identity.network_allow.assign(creation.request.network_allow().begin(), creation.request.network_allow().end());
  // The host's root has no id in a ranged map; an ordinary user is root inside.
  const int peer_uid = id_map.ranged ? static_cast<int>(kOverflowUid) : 0;
  Server server(std::move(state), std::move(identity), std::move(network), std::move(limits), std::move(listener),
                peer_uid);
  server.adopt_creator(std::move(creator_socket), creation.request_id);
  return server.run();
}

// Where root started it, the engine goes before its tasks: it should not wait for a processor while they stand still.
// Tasks run at the ordinary priority (sandbox/namespaces.cc).
void raise_priority() { (void)::setpriority(PRIO_PROCESS, 0, -10); }

void raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

int serve() {
  // The client must not become the engine's parent for good: it would have to reap it, and the engine outlives it.
  const pid_t child = ::fork();
  if (child != 0) return child > 0 ? 0 : 1;
  ::setsid();
  ::close_range(kCreatorFd + 1, ~0u, 0);
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGHUP, SIG_IGN);
  ::prctl(PR_SET_NAME, "deltabox-engine");
  ::fcntl(kCreatorFd, F_SETFD, FD_CLOEXEC);
  raise_descriptor_limit();
  raise_priority();
  UniqueFd socket(kCreatorFd);
  Result<UniqueFd> copy = sys::duplicate(socket.get());
  if (!copy.ok()) return 1;
  Client creator(0, std::move(socket));
  Result<Creation> creation = receive_creation(creator);
  if (!creation.ok()) {
    std::fprintf(stderr, "%s\n", creation.error().describe().c_str());
    return 1;
  }
  Result<void> served = serve_creation(creation.value(), copy.release_value());
  if (served.ok()) return 0;
  std::fprintf(stderr, "engine of %s: %s\n", creation.value().request.id().c_str(), served.error().describe().c_str());
  v1::EngineFrame answer;
  answer.set_request_id(creation.value().request_id);
  fill(*answer.mutable_failure(), served.error());
  creator.send(answer);
  return 1;
}

}  // namespace deltabox
