// Sockets by descriptors of the engine: names, options, queues, connections.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "base/unique_fd.h"
#include "deltacr/kinds/socket.h"

namespace deltabox {

// Sets the options that differ. Fails with the first that is refused, after all were tried.
Result<void> set_socket_options(int fd, const SocketState& wanted);
// A socket without a connection: its name. It does not listen yet.
Result<void> set_up_lone_socket(int fd, const SocketState& wanted, int m1_root);
// Takes all that waits in it, connections of a listener too.
Result<void> drain_socket(int fd, const SocketState& state);
// Sends what shall wait in the other end.
Result<void> send_queue(int fd, const SocketState& receiver);

// Two unix sockets that are connected already become these two ends.
Result<void> set_up_unix_pair(int first, const SocketState& wanted_first, int second, const SocketState& wanted_second);
// Two fresh TCP sockets become these two ends, established without a packet (TCP_REPAIR in tcp(7)'s kernel header; the
// engine has CAP_NET_ADMIN over the network namespace, which belongs to a child of its user namespace).
Result<void> set_up_tcp_pair(int first, const SocketState& wanted_first, int second, const SocketState& wanted_second);

// Two fresh TCP sockets become one of which the connection is over and something waits to be read.
Result<void> set_up_tcp_over(int fd, const SocketState& wanted, UniqueFd other);

// The state of an end that was closed, from the one that is left.
SocketState closed_end_of(const SocketState& wanted);

}  // namespace deltabox
