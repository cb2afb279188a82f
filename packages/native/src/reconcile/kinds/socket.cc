#include "reconcile/kinds/socket.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "reconcile/bind_again.h"

namespace deltabox {

namespace {

constexpr std::size_t kSinkBytes = 1u << 16;
constexpr int kMaxReads = 1 << 20;
constexpr std::uint8_t kShutSend = 2;
constexpr std::size_t kUnixPathOffset = offsetof(sockaddr_un, sun_path);

const sockaddr* address_of(const std::string& name) { return reinterpret_cast<const sockaddr*>(name.data()); }

std::string option_of(int fd, const SocketOption& option) {
  char value[64];
  socklen_t size = sizeof value;
  return ::getsockopt(fd, option.level, option.name, value, &size) == 0 ? std::string(value, size) : std::string();
}

bool set_int(int fd, int level, int name, int value) {
  return ::setsockopt(fd, level, name, &value, sizeof value) == 0;
}

Result<void> bind_to(int fd, const std::string& name) {
  if (::bind(fd, address_of(name), static_cast<socklen_t>(name.size())) != 0) return os_error("bind", "socket");
  return {};
}

// An end that a process closed or shut down: the other one hears of it in the usual way.
Result<void> shut_down(int fd, const SocketState& wanted) {
  if ((wanted.shutdown & kShutSend) != 0 && ::shutdown(fd, SHUT_WR) != 0 && errno != ENOTCONN) {
    return os_error("shutdown", "socket");
  }
  return {};
}

// The kernel's own names of what a repaired connection negotiated.
constexpr int kOptionMaxSegment = 2;
constexpr int kOptionWindowScale = 3;
constexpr int kOptionSackPermitted = 4;
constexpr int kOptionTimestamp = 8;
constexpr std::uint32_t kWindowScale = 7;
constexpr std::uint32_t kMaxSegment = 65'483;  // of loopback with its MTU of 65,536, for IPv6; IPv4 has 12 more
constexpr std::uint32_t kWindow = 65'535;

struct Sequence {
  std::uint32_t sent = 0;
  std::uint32_t received = 0;
};

Result<void> begin_repair(int fd, const SocketState& wanted, const SocketState& peer, Sequence sequence) {
  if (!set_int(fd, IPPROTO_TCP, TCP_REPAIR, 1)) return os_error("TCP_REPAIR", "socket");
  const auto set_sequence = [&](int queue, std::uint32_t value) {
    return set_int(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, queue) &&
           set_int(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, static_cast<int>(value));
  };
  if (!set_sequence(TCP_SEND_QUEUE, sequence.sent) || !set_sequence(TCP_RECV_QUEUE, sequence.received)) {
    return os_error("TCP_QUEUE_SEQ", "socket");
  }
  TRY(bind_to(fd, wanted.name));
  if (::connect(fd, address_of(peer.name), static_cast<socklen_t>(peer.name.size())) != 0) {
    return os_error("connect", "socket");
  }
  const tcp_repair_opt options[] = {{kOptionMaxSegment, kMaxSegment},
                                    {kOptionWindowScale, kWindowScale | (kWindowScale << 16)},
                                    {kOptionSackPermitted, 0},
                                    {kOptionTimestamp, 0}};
  if (::setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_OPTIONS, options, sizeof options) != 0) {
    return os_error("TCP_REPAIR_OPTIONS", "socket");
  }
  return {};
}

// What waits to be read is put there as if it had arrived; then both know the window of the other.
Result<void> fill_and_end_repair(int fd, const SocketState& wanted, Sequence sequence) {
  std::uint32_t received = sequence.received;
  if (!wanted.queue.empty()) {
    if (!set_int(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_RECV_QUEUE)) return os_error("TCP_REPAIR_QUEUE", "socket");
    const std::string& bytes = wanted.queue.front();
    for (std::size_t done = 0; done < bytes.size();) {
      const ssize_t count = ::send(fd, bytes.data() + done, bytes.size() - done, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (count <= 0) return os_error("send", "TCP_RECV_QUEUE");
      done += static_cast<std::size_t>(count);
    }
    received += static_cast<std::uint32_t>(bytes.size());
  }
  tcp_repair_window window{};
  window.snd_wl1 = received;
  window.snd_wnd = kWindow;
  window.max_window = kWindow;
  window.rcv_wnd = kWindow;
  window.rcv_wup = received;
  if (::setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &window, sizeof window) != 0) {
    return os_error("TCP_REPAIR_WINDOW", "socket");
  }
  if (!set_int(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_NO_QUEUE)) return os_error("TCP_REPAIR_QUEUE", "socket");
  return {};
}

}  // namespace

Result<void> set_socket_options(int fd, const SocketState& wanted) {
  Result<void> outcome;
  for (const SocketOption& option : wanted.options) {
    if (option.value.empty() || option_of(fd, option) == option.value) continue;
    std::string value = option.value;
    const bool is_buffer = option.level == SOL_SOCKET && (option.name == SO_SNDBUF || option.name == SO_RCVBUF);
    if (is_buffer) {
      // The kernel doubles what it is given and shows the double.
      int bytes = 0;
      std::memcpy(&bytes, value.data(), sizeof bytes);
      bytes /= 2;
      std::memcpy(value.data(), &bytes, sizeof bytes);
    }
    if (::setsockopt(fd, option.level, option.name, value.data(), static_cast<socklen_t>(value.size())) != 0) {
      outcome = os_error("setsockopt", std::to_string(option.level) + "/" + std::to_string(option.name));
    }
  }
  return outcome;
}

Result<void> set_up_lone_socket(int fd, const SocketState& wanted, int m1_root) {
  (void)set_socket_options(fd, wanted);  // those that count for bind(2); all of them are set again in the end
  if (wanted.is_unix()) {
    if (wanted.has_path()) {
      TRY(bind_again(fd, wanted, m1_root));
    } else if (wanted.name.size() > kUnixPathOffset) {
      TRY(bind_to(fd, wanted.name));
    }
  } else {
    sockaddr_in6 address{};
    std::memcpy(&address, wanted.name.data(), std::min(wanted.name.size(), sizeof address));
    // It only has the name still: whoever listens there is not in its way, nor it in theirs. In the host's network an
    // ordinary user may not do so, and it gets the port as well, if that is free.
    const bool repairs = wanted.is_over() && set_int(fd, IPPROTO_TCP, TCP_REPAIR, 1);
    // The port is at the same place in both families.
    if (address.sin6_port != 0) TRY(bind_to(fd, wanted.name));
    if (repairs && !set_int(fd, IPPROTO_TCP, TCP_REPAIR, 0)) return os_error("TCP_REPAIR", "socket");
    if (wanted.is_connected() &&
        ::connect(fd, address_of(wanted.peer_name), static_cast<socklen_t>(wanted.peer_name.size())) != 0) {
      return os_error("connect", "socket");
    }
    // One whose connection is over hears and says no more. The call fails, since it has none, and counts all the same.
    if (wanted.is_over()) (void)::shutdown(fd, SHUT_RDWR);
  }
  return set_socket_options(fd, wanted);
}

Result<void> drain_socket(int fd, const SocketState& state) {
  if (state.listens) {
    const int flags = ::fcntl(fd, F_GETFL);
    // Its users are frozen: for the length of the pause nobody sees the flag but us.
    if (::fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) return os_error("fcntl", "F_SETFL");
    for (int count = 0; count < kMaxReads; ++count) {
      const UniqueFd waiting(::accept4(fd, nullptr, nullptr, SOCK_CLOEXEC));
      if (!waiting.valid()) break;
    }
    return ::fcntl(fd, F_SETFL, flags) == 0 ? Result<void>() : os_error("fcntl", "F_SETFL");
  }
  std::string sink(kSinkBytes, '\0');
  for (int count = 0; count < kMaxReads; ++count) {
    const ssize_t taken = ::recv(fd, sink.data(), sink.size(), MSG_DONTWAIT);
    if (taken < 0 || (taken == 0 && state.is_stream())) break;
  }
  return {};
}

Result<void> send_queue(int fd, const SocketState& receiver) {
  // A last short segment would wait for an acknowledgement, and that for a timer.
  int no_delay = 1;
  socklen_t size = sizeof no_delay;
  const bool is_tcp = receiver.is_tcp() && ::getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &no_delay, &size) == 0;
  if (is_tcp && no_delay == 0) (void)set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  Result<void> outcome;
  for (const std::string& bytes : receiver.queue) {
    std::size_t done = 0;
    do {
      const ssize_t count = ::send(fd, bytes.data() + done, bytes.size() - done, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (count < 0) {
        outcome = os_error("send", "socket");
        break;
      }
      done += static_cast<std::size_t>(count);
    } while (done < bytes.size());
    if (!outcome.ok()) break;
  }
  if (is_tcp && no_delay == 0) (void)set_int(fd, IPPROTO_TCP, TCP_NODELAY, 0);
  return outcome;
}

Result<void> set_up_unix_pair(int first, const SocketState& wanted_first, int second,
                              const SocketState& wanted_second) {
  for (const auto& [fd, wanted] : {std::pair(first, &wanted_first), std::pair(second, &wanted_second)}) {
    // Bound to a path is only a listener; a connection that accept(2) made has its path as a name.
    if (wanted->name.size() > kUnixPathOffset && !wanted->has_path()) {
      // Several connections may have the name of one listener; only the first is given it.
      (void)bind_to(fd, wanted->name);
    }
  }
  TRY(send_queue(first, wanted_second));
  TRY(send_queue(second, wanted_first));
  TRY(shut_down(first, wanted_first));
  TRY(shut_down(second, wanted_second));
  TRY(set_socket_options(first, wanted_first));
  return set_socket_options(second, wanted_second);
}

Result<void> set_up_tcp_pair(int first, const SocketState& wanted_first, int second, const SocketState& wanted_second) {
  const auto bytes_of = [](const SocketState& state) {
    return static_cast<std::uint32_t>(state.queue.empty() ? 0 : state.queue.front().size());
  };
  constexpr std::uint32_t kFirst = 0x1000'0000;
  constexpr std::uint32_t kSecond = 0x2000'0000;
  // What waits in a receive queue has been sent by the other.
  const Sequence first_numbers{kFirst + bytes_of(wanted_second), kSecond};
  const Sequence second_numbers{kSecond + bytes_of(wanted_first), kFirst};
  (void)set_socket_options(first, wanted_first);
  (void)set_socket_options(second, wanted_second);
  TRY(begin_repair(first, wanted_first, wanted_second, first_numbers));
  TRY(begin_repair(second, wanted_second, wanted_first, second_numbers));
  TRY(fill_and_end_repair(first, wanted_first, first_numbers));
  TRY(fill_and_end_repair(second, wanted_second, second_numbers));
  for (const int fd : {first, second}) {
    if (!set_int(fd, IPPROTO_TCP, TCP_REPAIR, 0)) return os_error("TCP_REPAIR", "socket");
  }
  TRY(shut_down(first, wanted_first));
  TRY(shut_down(second, wanted_second));
  TRY(set_socket_options(first, wanted_first));
  return set_socket_options(second, wanted_second);
}

Result<void> set_up_tcp_over(int fd, const SocketState& wanted, UniqueFd other) {
  SocketState open = wanted;
  open.shutdown = 0;
  // Any name will do for the other end. That of the first would be a connection with itself.
  open.peer_name = wanted.name;
  sockaddr_in6 address{};
  std::memcpy(&address, open.peer_name.data(), std::min(open.peer_name.size(), sizeof address));
  const int port = ntohs(address.sin6_port);
  address.sin6_port = htons(static_cast<std::uint16_t>(port == 0xffff ? port - 1 : port + 1));
  std::memcpy(open.peer_name.data(), &address, std::min(open.peer_name.size(), sizeof address));
  TRY(set_up_tcp_pair(fd, open, other.get(), closed_end_of(open)));
  // It goes away with a reset, which leaves what had arrived.
  const linger at_once{1, 0};
  if (::setsockopt(other.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once) != 0) {
    return os_error("SO_LINGER", "socket");
  }
  other.reset();
  int told = 0;
  socklen_t size = sizeof told;
  if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &told, &size) != 0) return os_error("SO_ERROR", "socket");
  return set_socket_options(fd, wanted);
}

SocketState closed_end_of(const SocketState& wanted) {
  SocketState other;
  other.family = wanted.family;
  other.type = wanted.type;
  other.protocol = wanted.protocol;
  if (!wanted.is_unix()) {
    other.name = wanted.peer_name;
    other.peer_name = wanted.name;
  }
  return other;
}

}  // namespace deltabox
