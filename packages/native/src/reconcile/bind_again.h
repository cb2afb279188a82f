// Binds a listener or a datagram socket of unix to its path again. The kernel finds the socket behind a path by the
// inode that the overlay shows (unix_find_bsd()), and after a switch another overlay shows another inode for the same
// file: the file of before leads to nobody, and is replaced.
#pragma once

#include "base/result.h"
#include "deltacr/kinds/socket.h"

namespace deltabox {

// `fd`: not bound yet. With all tasks frozen, in M1. The file gets owner, mode and times of before.
Result<void> bind_again(int fd, const SocketState& wanted, int m1_root);
// Connects a datagram socket to the one that is bound so.
Result<void> connect_again(int fd, const SocketState& target, int m1_root);

}  // namespace deltabox
