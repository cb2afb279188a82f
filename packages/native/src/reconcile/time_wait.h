// A connection that ended keeps its local port for a minute (TIME_WAIT, RFC 9293, 3.6.1): a listener without
// SO_REUSEADDR can't be bound to it meanwhile, not even by a rollback to when it had it. What such a wait guards
// against, late segments of the old connection, does not come up where both ends are inside.
#pragma once

#include "base/result.h"
#include "deltacr/capture.h"
#include "deltacr/image.h"

namespace deltabox {

// Ends all waits that keep the port of a TCP socket, in the network namespace of a process, by sock_diag(7)'s
// SOCK_DESTROY. Without effect where the kernel does not have it (CONFIG_INET_DIAG_DESTROY), or where the network is
// the host's, which is not ours to change.
Result<void> end_time_waits(HeldProcess& held, const SocketState& wanted);

}  // namespace deltabox
