// Messages with descriptors over unix sockets.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace deltabox::sys {

inline constexpr std::size_t kMaxFdsPerMessage = 16;  // same bound as the frame header's users

Result<std::pair<UniqueFd, UniqueFd>> make_socket_pair(int type);
// Sends all of data; the descriptors go with its first byte. EINTR is retried.
Result<void> send_with_fds(int socket_fd, const void* data, std::size_t size_bytes, const std::vector<int>& fds = {});
// Sends what the socket takes at once and returns how many bytes that was; the descriptors go with the first of them.
Result<std::size_t> send_some(int socket_fd, const void* data, std::size_t size_bytes,
                              const std::vector<int>& fds = {});

struct Received {
  std::size_t size_bytes = 0;  // 0: the peer closed
  std::vector<UniqueFd> fds;
  pid_t sender_pid = 0;  // with SO_PASSCRED: the pid the sender named, translated into our pid namespace
};
Result<Received> receive_with_fds(int socket_fd, void* buffer, std::size_t capacity_bytes, int flags = 0);

}  // namespace deltabox::sys
