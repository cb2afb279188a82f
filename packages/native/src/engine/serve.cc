#include "engine/serve.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/mman.h>
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
#include "engine/fork.h"
#include "engine/layout.h"
#include "engine/limits.h"
#include "engine/network.h"
#include "engine/paths.h"
#include "engine/sandbox_files.h"
#include "engine/server.h"
#include "sandbox/id_map.h"
#include "sandbox/namespaces.h"
#include "sandbox/proxy_launcher.h"
#include "sandbox/skeleton.h"
#include "sys/files.h"

namespace deltabox {

namespace {

constexpr int kCreatorFd = 3;
constexpr int kRequestTimeoutMs = 10'000;
constexpr std::uint32_t kOverflowUid = 65534;  // how an id without a mapping looks in a user namespace

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

Result<void> write_file(SandboxState& state, const MakeFile& file) {
  UniqueFd contents(::memfd_create("contents", MFD_CLOEXEC));
  if (!contents) return os_error("memfd_create");
  TRY(sys::write_all(contents.get(), file.contents.data(), file.contents.size()));
  return write_whole_file(state.namespaces().m1_root.get(), file.path, contents.get(), 0644, false);
}

Result<std::unique_ptr<SandboxState>> build(const v1::CreateRequest& request, bool recovering, const IdMap& id_map,
                                            NetworkMode network, const SandboxLimits& limits,
                                            std::vector<std::string>& warnings) {
  const bool host_network = network == NetworkMode::kHost;
  const std::string hosts = TRY(hosts_lines(request));
  const Layout layout = TRY(plan_layout(request, host_network, hosts, id_map.ranged));
  NamespaceConfig config;
  config.id_map = id_map;
  config.bases = layout.bases;
  config.binds = layout.binds;
  config.views = layout.views;
  config.store = request.state_dir() + "/store";
  config.init_binary = TRY(init_binary_path());
  for (const v1::Donor& donor : request.donors()) {
    config.donors.push_back(donor.store());
    config.last_layers.push_back(donor.last_layer());
  }
  for (const VolumeSpec& volume : layout.volumes) config.volume_paths.push_back(volume.path);
  config.init_options.own_network = !host_network;
  config.skeleton.host_network = host_network;
  config.skeleton.hosts = hosts;
  config.skeleton.from_image = layout.from_image;
  config.skeleton.image_links = layout.image_links;
  limits.configure(config);
  if (!recovering) TRY(sys::make_dir_at(AT_FDCWD, config.store, 0700));
  if (!recovering && ::chown(config.store.c_str(), id_map.outside_uid, id_map.outside_gid) != 0)
    return os_error("chown", config.store);
  SandboxNamespaces namespaces = TRY(build_namespaces(config));
  const std::vector<VolumeSpec> volumes = volumes_of(layout, namespaces.views);
  warnings.insert(warnings.end(), layout.read_only.begin(), layout.read_only.end());
  warnings.insert(warnings.end(), namespaces.views_refused.begin(), namespaces.views_refused.end());
  std::unique_ptr<SandboxState> state = TRY(SandboxState::create(std::move(namespaces), volumes, recovering));
  if (!recovering) {
    for (const MakeFile& file : layout.files) TRY(write_file(*state, file));
  }
  return state;
}

// While the engine still has the host's tree and ids: the proxy keeps both.
Result<std::optional<ProxyLauncher>> start_launcher(const v1::CreateRequest& request, NetworkMode network) {
  if (network != NetworkMode::kAllow) return std::optional<ProxyLauncher>();
  const std::vector<std::string> command(request.proxy_command().begin(), request.proxy_command().end());
  return std::optional<ProxyLauncher>(TRY(ProxyLauncher::start(command)));
}

// One engine per sandbox, for as long as it lives.
Result<UniqueFd> lock_state_dir(const std::string& state_dir) {
  UniqueFd lock = TRY(sys::open_at(AT_FDCWD, state_dir + "/engine.lock", O_RDWR | O_CREAT | O_NOFOLLOW, 0600));
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    return make_error(Code::kBusy, "another engine holds the sandbox", "Connect to it again in a moment.");
  }
  return lock;
}

Result<void> serve_creation(Creation creation, UniqueFd creator_socket) {
  const UniqueFd lock = TRY(lock_state_dir(creation.request.state_dir()));
  const bool recovers = creation.request.recover();
  const v1::ForkOrigin origin = creation.request.fork();
  const bool forks = creation.request.has_fork();
  if (recovers) {
    creation.request = TRY(kept_request(creation.request.state_dir(), creation.request.id()));
    // The socket of the engine that ended; the lock says that it did.
    ::unlink((creation.request.state_dir() + "/engine.sock").c_str());
  } else {
    if (forks) creation.request = TRY(request_of_fork(creation.request));
    TRY(keep_request(creation.request));
  }
  UniqueFd listener = TRY(listen_in(creation.request.state_dir()));
  const IdMap id_map = TRY(choose_id_map());
  if (forks) TRY(make_forked_store(creation.request, origin, id_map));
  std::unique_ptr<SharedBudget> budget = TRY(SharedBudget::join(creation.request.state_dir() + "/../../hot-budget"));
  SandboxLimits limits = TRY(SandboxLimits::create(creation.request.limits(), creation.request.id()));
  SandboxNetwork network(TRY(parse_network_mode(creation.request.network())));
  std::optional<ProxyLauncher> proxy = TRY(start_launcher(creation.request, network.mode()));
  std::vector<std::string> identity_warnings;
  std::unique_ptr<SandboxState> state =
      TRY(build(creation.request, recovers || forks, id_map, network.mode(), limits, identity_warnings));
  if (proxy) TRY(network.start_proxy(std::move(*proxy), state->namespaces().init_client, creation.request));
  if (recovers) {
    const std::vector<std::string>& lost = state->recovery_warnings();
    identity_warnings.insert(identity_warnings.end(), lost.begin(), lost.end());
  }
  const v1::Retention& retention = creation.request.retention();
  state->share_budget(std::move(budget));
  state->set_durable_processes(creation.request.durable_processes());
  state->set_retention({retention.keep_last(), !retention.drop_named(), retention.max_bytes(), retention.hot_bytes()});
  SandboxIdentity identity;
  identity.warnings = std::move(identity_warnings);
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
  std::unique_ptr<DiskLimit> disk = TRY(DiskLimit::create(limits.disk_bytes(), state->namespaces()));
  Server server(std::move(state), std::move(identity), std::move(network), std::move(limits), std::move(disk),
                std::move(listener), peer_uid);
  if (forks) TRY(server.begin_from(origin.checkpoint_id(), origin.hold()));
  if (recovers) server.go_on_after_engine(creation.request.durable_processes());
  server.adopt_creator(std::move(creator_socket), creation.request_id);
  return server.run();
}

// The caller knows the workspace and the state directory, not the places where the engine has mounted them.
Error name_outer_paths(Error error, const v1::CreateRequest& request) {
  const auto replace = [&](const std::string& inner, const std::string& outer) {
    for (std::string* text : {&error.subject, &error.message}) {
      const std::size_t place = text->find(inner);
      if (place != std::string::npos) text->replace(place, inner.size(), outer);
    }
  };
  replace(kStorePoint, request.state_dir() + "/store");
  replace(kBasePoint, request.workspace());
  return error;
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
  served = name_outer_paths(served.release_error(), creation.value().request);
  std::fprintf(stderr, "engine of %s: %s\n", creation.value().request.id().c_str(), served.error().describe().c_str());
  v1::EngineFrame answer;
  answer.set_request_id(creation.value().request_id);
  fill(*answer.mutable_failure(), served.error());
  creator.send(answer);
  return 1;
}

}  // namespace deltabox
