#include "engine/network.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

namespace deltabox {

namespace {

constexpr std::uint16_t kProxyPort = 3128;  // told to commands by packages/core, network/environment.ts
constexpr int kProxyBacklog = 256;
constexpr std::uint32_t kDirectNet = 0x7F400000;  // 127.64.0.0, from whose first address on direct hosts have theirs
constexpr int kMaxDirectHosts = 256;              // of core's list (network/options.ts), with two ports each
constexpr int kMaxDirectPorts = 512;
constexpr std::size_t kMaxNameBytes = 253;
constexpr std::size_t kMaxControlLine = 64;
constexpr int kConnectWaitMs = 2;

sockaddr_in loopback4(std::uint32_t port, std::uint32_t host = INADDR_LOOPBACK) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(host);
  return address;
}

std::uint32_t direct_address(int index) { return kDirectNet + 1 + static_cast<std::uint32_t>(index); }

// The name goes into a file that programs inside trust.
bool is_host_name(const std::string& name) {
  return !name.empty() && name.size() <= kMaxNameBytes &&
         name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-_.") == std::string::npos;
}

Result<UniqueFd> listen_inside(InitClient& init, const sockaddr_in& address) {
  UniqueFd listener = TRY(init.make_socket(AF_INET, SOCK_STREAM));
  const int enabled = 1;
  ::setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &enabled, sizeof enabled);
  if (::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return os_error("bind", "network proxy");
  }
  if (::listen(listener.get(), kProxyBacklog) != 0) return os_error("listen", "network proxy");
  return listener;
}

sockaddr_in6 loopback6(std::uint16_t port) {
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_port = htons(port);
  address.sin6_addr = in6addr_loopback;
  return address;
}

// 0 or the errno. Loopback answers at once; only a server whose queue is full does not, and then the connection counts
// as made while it is under way: whoever reads from it hears how it ended.
int begin_connecting(int fd, const sockaddr* address, socklen_t length) {
  if (::connect(fd, address, length) == 0) return 0;
  if (errno != EINPROGRESS) return errno;
  pollfd waiting{fd, POLLOUT, 0};
  if (::poll(&waiting, 1, kConnectWaitMs) <= 0) return 0;
  int failure = 0;
  socklen_t size = sizeof failure;
  return ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &failure, &size) == 0 ? failure : errno;
}

}  // namespace

Result<NetworkMode> parse_network_mode(const std::string& text) {
  if (text.empty() || text == "none") return NetworkMode::kNone;
  if (text == "host") return NetworkMode::kHost;
  if (text == "allow") return NetworkMode::kAllow;
  return make_error(Code::kInvalidArgument, "no network is called " + text.substr(0, 40), "Give none, host or allow.");
}

Result<std::string> hosts_lines(const v1::CreateRequest& request) {
  int ports = 0;
  for (const v1::DirectHost& host : request.direct_hosts()) ports += host.ports_size();
  if (request.direct_hosts_size() > kMaxDirectHosts || ports > kMaxDirectPorts) {
    return make_error(Code::kInvalidArgument, "too many hosts are to be reached", "Give at most 256 entries.");
  }
  std::string lines;
  for (int index = 0; index < request.direct_hosts_size(); ++index) {
    const std::string& name = request.direct_hosts(index).name();
    if (!is_host_name(name))
      return make_error(Code::kInvalidArgument, "a host that is to be reached has no plain name");
    char text[INET_ADDRSTRLEN];
    const in_addr address{htonl(direct_address(index))};
    ::inet_ntop(AF_INET, &address, text, sizeof text);
    lines += std::string(text) + " " + name + "\n";
  }
  return lines;
}

Result<void> SandboxNetwork::start_proxy(ProxyLauncher launcher, InitClient& init, const v1::CreateRequest& request) {
  std::vector<UniqueFd> listeners;
  listeners.push_back(TRY(listen_inside(init, loopback4(kProxyPort))));
  for (int index = 0; index < request.direct_hosts_size(); ++index) {
    for (const std::uint32_t port : request.direct_hosts(index).ports()) {
      listeners.push_back(TRY(listen_inside(init, loopback4(port, direct_address(index)))));
    }
  }
  control_ = TRY(launcher.launch(listeners));
  return {};
}

void SandboxNetwork::read_control() {
  char buffer[512];
  const ssize_t count = ::read(control_.get(), buffer, sizeof buffer);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (count <= 0) {
    control_.reset();
    open_connections_ = 0;
    return;
  }
  for (ssize_t index = 0; index < count; ++index) {
    if (buffer[index] != '\n') {
      if (line_.size() < kMaxControlLine) line_ += buffer[index];
      continue;
    }
    if (line_.starts_with("open ")) open_connections_ = std::strtoull(line_.c_str() + 5, nullptr, 10);
    line_.clear();
  }
}

void SandboxNetwork::close_connections() {
  if (!control_) return;
  // A proxy that reads nothing has died or hangs; the poll of its socket tells the former.
  [[maybe_unused]] const ssize_t count = ::send(control_.get(), "close\n", 6, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void fill_network(v1::SandboxInfo& info, const SandboxNetwork& network, const std::vector<std::string>& allow) {
  static constexpr const char* kNames[] = {"none", "host", "allow"};
  info.set_network(kNames[static_cast<int>(network.mode())]);
  for (const std::string& entry : allow) info.add_network_allow(entry);
  if (network.proxy_ended()) {
    info.add_warnings("the network proxy of this sandbox has ended: nothing outside is reached; see engine.log");
  }
}

void report_closed_connections(SandboxNetwork& network, RollbackOutcome& outcome) {
  const std::uint64_t count = network.open_connections();
  if (count > 0) {
    outcome.not_restored.push_back(
        {0, "connection", std::to_string(count) + " connections to outside through the proxy were closed"});
  }
  network.close_connections();
}

Result<UniqueFd> connect_to_port(InitClient& init, std::uint32_t port) {
  if (port == 0 || port > 65'535) {
    return make_error(Code::kInvalidArgument, "no port has the number " + std::to_string(port), "Give 1 to 65535.");
  }
  UniqueFd first = TRY(init.make_socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK));
  const sockaddr_in address4 = loopback4(static_cast<std::uint16_t>(port));
  int failure = begin_connecting(first.get(), reinterpret_cast<const sockaddr*>(&address4), sizeof address4);
  if (failure == 0) return first;
  Result<UniqueFd> second = init.make_socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK);
  if (second.ok()) {
    const sockaddr_in6 address6 = loopback6(static_cast<std::uint16_t>(port));
    const auto* generic = reinterpret_cast<const sockaddr*>(&address6);
    if (begin_connecting(second.value().get(), generic, sizeof address6) == 0) return second.release_value();
  }
  Error error = os_error_from(failure, "connect", "port " + std::to_string(port) + " inside");
  if (failure == ECONNREFUSED) {
    error.code = Code::kNotFound;
    error.message = "nothing inside listens on port " + std::to_string(port);
    error.next_step = "Start the server first, and let it listen on localhost or on all addresses.";
  }
  return error;
}

}  // namespace deltabox
