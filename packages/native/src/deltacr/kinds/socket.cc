#include "deltacr/kinds/socket.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstddef>

namespace deltabox {

bool SocketState::is_stream() const { return type == SOCK_STREAM; }
bool SocketState::is_unix() const { return family == AF_UNIX; }
bool SocketState::is_unix_datagram() const { return is_unix() && type == SOCK_DGRAM; }
bool SocketState::is_tcp() const { return !is_unix() && protocol == IPPROTO_TCP; }

bool SocketState::has_path() const {
  constexpr std::size_t kPathOffset = offsetof(sockaddr_un, sun_path);
  return is_unix() && name.size() > kPathOffset && name[kPathOffset] != '\0';
}

std::string SocketState::bound_path() const {
  return has_path() ? std::string(name.c_str() + offsetof(sockaddr_un, sun_path)) : std::string();
}

namespace {

// A listener has no state but what its callers can't see yet: one that stands at the same place is the same.
bool are_same_listener(const SocketState& live, const SocketState& wanted) {
  return live.listens && live.has_path() && !wanted.node.path.empty() && live.node.path == wanted.node.path &&
         live.type == wanted.type && live.options == wanted.options && live.backlog == wanted.backlog;
}

}  // namespace

SocketDifference difference_of(const SocketState& live, const SocketState& wanted) {
  SocketDifference difference;
  difference.identity = (live.cookie != wanted.cookie && !are_same_listener(live, wanted)) ||
                        live.name != wanted.name || live.peer_name != wanted.peer_name ||
                        live.listens != wanted.listens || live.peer_cookie != wanted.peer_cookie ||
                        live.peer_is_gone != wanted.peer_is_gone || live.shutdown != wanted.shutdown;
  difference.queue = wanted.is_complete && (!live.is_complete || live.queue != wanted.queue);
  difference.options = live.options != wanted.options || live.backlog != wanted.backlog;
  return difference;
}

bool can_be_made(const SocketState& wanted) {
  if (!wanted.is_complete) return false;
  const bool is_pair = wanted.peer_cookie != 0 || wanted.peer_is_gone;
  if (wanted.is_unix()) {
    const bool has_node = (wanted.listens || wanted.is_unix_datagram()) && !wanted.node.path.empty();
    const bool can_be_filled = wanted.queue.empty() || wanted.can_be_filled_by_path();
    const bool is_lone = !wanted.is_connected() || wanted.target_cookie != 0;
    return is_pair || (is_lone && (has_node || !wanted.has_path()) && can_be_filled);
  }
  if (wanted.is_tcp()) return is_pair || !wanted.is_connected();
  return wanted.queue.empty();
}

}  // namespace deltabox
