// Starts the sandbox's network proxy: a process of its own that stays in the host's namespaces, while its listening
// socket lies in the tasks' network namespace.
//
//   fork (before the engine leaves the host's tree) ── waits ── launch(listener) ── exec: fd 3 listener, fd 4 control
//
// The proxy's lifetime is that of the control socket: its end is the engine's end, and the proxy then exits. While it
// waits the launcher holds nothing but its end of that socket.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace deltabox {

class ProxyLauncher {
 public:
  // `command`: an absolute path of the host and its arguments.
  static Result<ProxyLauncher> start(const std::vector<std::string>& command);
  // `listeners`: the proxy's own, then those that lead to one host each.
  // Returns the engine's end of the control socket, non-blocking. Connections that come before the proxy is up wait in
  // the listeners' queues.
  Result<UniqueFd> launch(const std::vector<UniqueFd>& listeners);

 private:
  UniqueFd control_;
};

}  // namespace deltabox
