// The sandbox's ways to other networks: the proxy beside it, and connections from outside to servers inside.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "checkpoint/transaction.h"
#include "deltabox.pb.h"
#include "sandbox/init_client.h"
#include "sandbox/proxy_launcher.h"

namespace deltabox {

enum class NetworkMode { kNone, kHost, kAllow };

Result<NetworkMode> parse_network_mode(const std::string& text);

class SandboxNetwork {
 public:
  explicit SandboxNetwork(NetworkMode mode) : mode_(mode) {}

  NetworkMode mode() const { return mode_; }
  // Makes the listening sockets inside, the proxy's own and those of the direct hosts, and hands them to the proxy.
  Result<void> start_proxy(ProxyLauncher launcher, InitClient& init, const v1::CreateRequest& request);
  // Readable when the proxy said something or ended; -1 without a proxy.
  int control_fd() const { return control_.get(); }
  void read_control();
  bool proxy_ended() const { return mode_ == NetworkMode::kAllow && !control_; }
  // Connections through the proxy that were open when it last spoke.
  std::uint64_t open_connections() const { return open_connections_; }
  // Has the proxy end them all; what is inside sees a reset. Does not wait.
  void close_connections();

 private:
  NetworkMode mode_;
  UniqueFd control_;
  std::string line_;
  std::uint64_t open_connections_ = 0;
};

// Lines of /etc/hosts that give each direct host its address.
Result<std::string> hosts_lines(const v1::CreateRequest& request);

void fill_network(v1::SandboxInfo& info, const SandboxNetwork& network, const std::vector<std::string>& allow);
// What was said over a connection to outside can't be taken back: after a rollback all of them are closed, and named.
void report_closed_connections(SandboxNetwork& network, RollbackOutcome& outcome);

// A socket that is connected, or still connecting, to the port on loopback inside. Waits 2 ms for each family at most.
Result<UniqueFd> connect_to_port(InitClient& init, std::uint32_t port);

}  // namespace deltabox
