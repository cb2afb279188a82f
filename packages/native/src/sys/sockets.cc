#include "sys/sockets.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>

namespace deltabox::sys {

Result<std::pair<UniqueFd, UniqueFd>> make_socket_pair(int type) {
  int fds[2];
  if (::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds) != 0) return os_error("socketpair");
  return std::pair<UniqueFd, UniqueFd>(UniqueFd(fds[0]), UniqueFd(fds[1]));
}

namespace {

// One sendmsg(2); EINTR is retried.
Result<std::size_t> send_once(int socket_fd, const char* data, std::size_t size_bytes, const std::vector<int>& fds,
                              int flags) {
  if (fds.size() > kMaxFdsPerMessage) return make_error(Code::kInternal, "too many descriptors in one message");
  iovec iov{const_cast<char*>(data), size_bytes};
  msghdr message{};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMaxFdsPerMessage)];
  if (!fds.empty()) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
    std::memcpy(CMSG_DATA(header), fds.data(), sizeof(int) * fds.size());
  }
  ssize_t count;
  do {
    count = ::sendmsg(socket_fd, &message, MSG_NOSIGNAL | flags);
  } while (count < 0 && errno == EINTR);
  if (count < 0) return os_error("sendmsg");
  return static_cast<std::size_t>(count);
}

}  // namespace

Result<void> send_with_fds(int socket_fd, const void* data, std::size_t size_bytes, const std::vector<int>& fds) {
  const char* cursor = static_cast<const char*>(data);
  bool first = true;
  do {
    const std::size_t count = TRY(send_once(socket_fd, cursor, size_bytes, first ? fds : std::vector<int>(), 0));
    first = false;
    cursor += count;
    size_bytes -= count;
  } while (size_bytes > 0);
  return {};
}

Result<std::size_t> send_some(int socket_fd, const void* data, std::size_t size_bytes, const std::vector<int>& fds) {
  const char* cursor = static_cast<const char*>(data);
  std::size_t sent = 0;
  while (sent < size_bytes) {
    Result<std::size_t> count =
        send_once(socket_fd, cursor + sent, size_bytes - sent, sent == 0 ? fds : std::vector<int>(), MSG_DONTWAIT);
    if (!count.ok() && count.error().os_errno == EAGAIN) break;
    sent += TRY(std::move(count));
  }
  return sent;
}

Result<Received> receive_with_fds(int socket_fd, void* buffer, std::size_t capacity_bytes, int flags) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMaxFdsPerMessage) + CMSG_SPACE(sizeof(ucred))];
  iovec iov{buffer, capacity_bytes};
  msghdr message{};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t count;
  do {
    count = ::recvmsg(socket_fd, &message, flags | MSG_CMSG_CLOEXEC);
  } while (count < 0 && errno == EINTR);
  if (count < 0) return os_error("recvmsg");
  Received received;
  received.size_bytes = static_cast<std::size_t>(count);
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET) continue;
    if (header->cmsg_type == SCM_RIGHTS) {
      const std::size_t fd_count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (std::size_t index = 0; index < fd_count; ++index) {
        int fd = -1;
        std::memcpy(&fd, CMSG_DATA(header) + index * sizeof(int), sizeof fd);
        received.fds.emplace_back(fd);
      }
    } else if (header->cmsg_type == SCM_CREDENTIALS) {
      ucred credentials{};
      std::memcpy(&credentials, CMSG_DATA(header), sizeof credentials);
      received.sender_pid = credentials.pid;
    }
  }
  return received;
}

}  // namespace deltabox::sys
