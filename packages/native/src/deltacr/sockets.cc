#include "deltacr/sockets.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/sockios.h>
#include <linux/un.h>
#include <linux/unix_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "deltacr/capture.h"
#include "sys/files.h"
#include "sys/processes.h"

namespace deltabox {

namespace {

constexpr int kSoBufLock = 72;                       // SO_BUF_LOCK, 5.14: 1 SO_SNDBUF, 2 SO_RCVBUF were set
constexpr std::size_t kMaxQueueBytes = 8u << 20;     // beyond tcp_rmem's usual 6 MiB
constexpr std::size_t kMaxDatagramBytes = 1u << 18;  // what a default send buffer takes
constexpr int kMaxDatagrams = 4096;
constexpr std::uint8_t kShutReceive = 1;
constexpr std::uint8_t kShutSend = 2;
constexpr int kTcpListen = 10;

std::string get_option(int fd, int level, int name) {
  char value[64];
  socklen_t size = sizeof value;
  return ::getsockopt(fd, level, name, value, &size) == 0 ? std::string(value, size) : std::string();
}

int get_int(int fd, int level, int name) {
  int value = 0;
  socklen_t size = sizeof value;
  return ::getsockopt(fd, level, name, &value, &size) == 0 ? value : 0;
}

std::vector<SocketOption> read_options(int fd, const SocketState& state) {
  std::vector<std::pair<int, int>> wanted = {
      {SOL_SOCKET, SO_REUSEADDR}, {SOL_SOCKET, SO_KEEPALIVE}, {SOL_SOCKET, SO_BROADCAST},
      {SOL_SOCKET, SO_OOBINLINE}, {SOL_SOCKET, SO_LINGER},    {SOL_SOCKET, SO_RCVLOWAT},
      {SOL_SOCKET, SO_RCVTIMEO},  {SOL_SOCKET, SO_SNDTIMEO},  {SOL_SOCKET, SO_PRIORITY},
  };
  const int locked = get_int(fd, SOL_SOCKET, kSoBufLock);
  // The kernel tunes those of TCP by itself until they are set.
  if ((locked & 1) != 0) wanted.push_back({SOL_SOCKET, SO_SNDBUF});
  if ((locked & 2) != 0) wanted.push_back({SOL_SOCKET, SO_RCVBUF});
  if (state.is_unix()) {
    wanted.push_back({SOL_SOCKET, SO_PASSCRED});
  } else {
    wanted.push_back({SOL_SOCKET, SO_REUSEPORT});
  }
  if (state.family == AF_INET) {
    wanted.push_back({IPPROTO_IP, IP_TOS});
    wanted.push_back({IPPROTO_IP, IP_TTL});
  }
  if (state.family == AF_INET6) {
    // Fixed by bind(2), and of no account once it is connected.
    if (!state.is_connected()) wanted.push_back({IPPROTO_IPV6, IPV6_V6ONLY});
    wanted.push_back({IPPROTO_IPV6, IPV6_TCLASS});
  }
  if (state.is_tcp()) {
    for (const int name : {TCP_NODELAY, TCP_CORK, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT, TCP_USER_TIMEOUT,
                           TCP_DEFER_ACCEPT, TCP_LINGER2}) {
      wanted.push_back({IPPROTO_TCP, name});
    }
  }
  std::vector<SocketOption> options;
  for (const auto& [level, name] : wanted) options.push_back({level, name, get_option(fd, level, name)});
  return options;
}

template <typename Call>
std::string read_name(Call call, int fd) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (call(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return {};
  return std::string(reinterpret_cast<const char*>(&address), std::min<std::size_t>(size, sizeof address));
}

// One MSG_PEEK. `flags` tells of descriptors or credentials that come along, `is_named` of a sender with an address.
ssize_t peek(int fd, std::string& buffer, int* flags, bool* is_named = nullptr) {
  iovec part{buffer.data(), buffer.size()};
  sockaddr_storage sender{};
  msghdr message{};
  message.msg_name = &sender;
  message.msg_namelen = sizeof sender;
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  const ssize_t count = ::recvmsg(fd, &message, MSG_PEEK | MSG_DONTWAIT);
  *flags = message.msg_flags;
  if (is_named != nullptr) *is_named = message.msg_namelen > 0;
  return count;
}

// A program may have set where its own looks begin; ours begin at the front. Put back at the end.
class PeekFromFront {
 public:
  explicit PeekFromFront(int fd) : fd_(fd) {
    socklen_t size = sizeof before_;
    if (::getsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &before_, &size) == 0 && before_ >= 0) set(-1);
  }
  PeekFromFront(const PeekFromFront&) = delete;
  PeekFromFront& operator=(const PeekFromFront&) = delete;
  ~PeekFromFront() { set(before_); }

 private:
  void set(int offset) const { (void)::setsockopt(fd_, SOL_SOCKET, SO_PEEK_OFF, &offset, sizeof offset); }

  int fd_;
  int before_ = -1;  // none, as with sockets that know of no such thing
};

Result<void> read_stream_queue(int fd, SocketState& state, std::string& shortcoming) {
  const PeekFromFront looks(fd);
  int waiting = 0;
  if (::ioctl(fd, FIONREAD, &waiting) != 0) return os_error("FIONREAD", "socket");
  if (waiting == 0) return {};
  if (static_cast<std::size_t>(waiting) > kMaxQueueBytes) {
    shortcoming = "more waits in it than can be captured";
    return {};
  }
  std::string bytes(static_cast<std::size_t>(waiting) + 1, '\0');
  int flags = 0;
  const ssize_t count = peek(fd, bytes, &flags);
  if (count < 0) return os_error("recvmsg", "socket");
  if ((flags & MSG_CTRUNC) != 0 || count != waiting) {
    shortcoming = "descriptors, credentials or urgent data wait in it, which are not captured";
    return {};
  }
  bytes.resize(static_cast<std::size_t>(count));
  state.queue.push_back(std::move(bytes));
  return {};
}

// Without taking anything: a read would take an error that the program was not told yet.
bool hears_no_more(int fd) {
  pollfd socket{fd, POLLRDHUP, 0};
  return ::poll(&socket, 1, 0) == 1 && (socket.revents & POLLRDHUP) != 0;
}

bool has_urgent_data(int fd) {
  pollfd socket{fd, POLLPRI, 0};
  return ::poll(&socket, 1, 0) == 1 && (socket.revents & POLLPRI) != 0;
}

// `told`: what the kernel said waits. Nothing is read both at the end and in a record without bytes.
bool is_empty_record(int fd, int told, const std::vector<std::string>& queue) {
  std::size_t read = 0;
  for (const std::string& record : queue) read += record.size();
  return !hears_no_more(fd) || read < static_cast<std::size_t>(told);
}

Result<void> read_datagrams(int fd, SocketState& state, std::string& shortcoming) {
  const PeekFromFront looks(fd);
  int waiting = 0;
  std::string bytes(kMaxDatagramBytes, '\0');
  int flags = 0;
  const ssize_t first = peek(fd, bytes, &flags);
  if (first < 0) return {};  // nothing waits
  // A look with an offset passes over one that somebody has looked at before.
  if (first == 0 && state.type == SOCK_DGRAM) shortcoming = "an empty datagram waits in it, which is not captured";
  (void)::ioctl(fd, FIONREAD, &waiting);
  int offset = 0;
  if (::setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &offset, sizeof offset) != 0) return os_error("SO_PEEK_OFF", "socket");
  while (shortcoming.empty()) {
    bool is_named = false;
    const ssize_t count = peek(fd, bytes, &flags, &is_named);
    if (count < 0) break;
    if (count == 0 && state.type != SOCK_DGRAM && !is_empty_record(fd, waiting, state.queue)) break;
    if (count == 0) shortcoming = "an empty datagram waits in it, which is not captured";
    state.has_named_senders |= is_named;
    if ((flags & (MSG_CTRUNC | MSG_TRUNC)) != 0 || state.queue.size() == kMaxDatagrams) {
      shortcoming = "descriptors, credentials or more than can be captured wait in it";
    }
    state.queue.push_back(bytes.substr(0, static_cast<std::size_t>(count)));
  }
  return {};
}

void read_tcp(int fd, SocketState& state, std::string& shortcoming) {
  tcp_info info{};
  socklen_t size = sizeof info;
  if (::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return;
  switch (info.tcpi_state) {
    case TCP_ESTABLISHED:
      break;
    case TCP_CLOSE:
      // Its connection was reset, which it was told: reads show the end now. One that never had any says "not
      // connected".
      if (hears_no_more(fd)) state.shutdown = kShutReceive | kShutSend;
      break;
    case kTcpListen:
      state.backlog = static_cast<int>(info.tcpi_sacked);  // of a listener: its bound
      if (info.tcpi_unacked > 0) shortcoming = "connections wait to be accepted, which are not captured";
      break;
    case TCP_CLOSE_WAIT:
      state.shutdown = kShutReceive;
      break;
    case TCP_FIN_WAIT1:
    case TCP_FIN_WAIT2:
      state.shutdown = kShutSend;
      break;
    case TCP_LAST_ACK:
    case TCP_CLOSING:
    case TCP_TIME_WAIT:
      state.shutdown = kShutReceive | kShutSend;
      break;
    default:
      shortcoming = "it is just being connected";
  }
  if (has_urgent_data(fd)) shortcoming = "urgent data waits in it, which is not captured";
  // What was sent over loopback has arrived, acknowledged or not (that comes later), unless it was dropped there.
  int unsent = 0;
  const bool asked = info.tcpi_state != kTcpListen && ::ioctl(fd, SIOCOUTQNSD, &unsent) == 0;
  if (asked && (unsent > 0 || info.tcpi_retransmits > 0)) {
    shortcoming = "what it sent has not arrived yet, which is not captured";
  }
}

}  // namespace

void SocketReader::begin(const std::vector<VolumeView>& volumes) {
  met_.clear();
  volumes_ = volumes;
}

void SocketReader::meet(std::uint32_t description, InsidePid pid, int fd, UniqueFd duplicate) {
  Met met;
  met.description = description;
  met.pid = pid;
  met.fd = fd;
  met.duplicate = std::move(duplicate);
  met_.push_back(std::move(met));
}

// A task makes it for us, in whose network namespace it then is.
Result<void> SocketReader::open_diagnosis(const TreeImage& image, TreeCapture& capture) {
  if (diagnosis_.valid()) return {};
  HeldProcess* any = image.processes.empty() ? nullptr : capture.find(image.processes.front().incarnation);
  if (any == nullptr) return make_error(Code::kInternal, "no process is held");
  HeldProcess& held = *any;
  parasite::Call make = parasite::make_call(SYS_socket, AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
  TRY(held.session.run(held.live->site, {&make, 1}));
  if (make.result < 0) return os_error_from(static_cast<int>(-make.result), "socket", "sock_diag");
  Result<UniqueFd> taken = sys::pidfd_get_fd(held.live->pidfd.get(), static_cast<int>(make.result));
  parasite::Call close = parasite::make_call(SYS_close, static_cast<std::uint64_t>(make.result));
  TRY(held.session.run(held.live->site, {&close, 1}));
  diagnosis_ = TRY(std::move(taken));
  return {};
}

Result<void> SocketReader::diagnose_unix(Met& met, std::uint64_t inode) const {
  struct {
    nlmsghdr header;
    unix_diag_req request;
  } question{};
  question.header.nlmsg_len = sizeof question;
  question.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  question.header.nlmsg_flags = NLM_F_REQUEST;
  question.request.sdiag_family = AF_UNIX;
  question.request.udiag_states = ~0u;
  question.request.udiag_ino = static_cast<std::uint32_t>(inode);
  question.request.udiag_show = UDIAG_SHOW_PEER | UDIAG_SHOW_RQLEN;
  question.request.udiag_cookie[0] = static_cast<std::uint32_t>(met.state.cookie);
  question.request.udiag_cookie[1] = static_cast<std::uint32_t>(met.state.cookie >> 32);
  if (::send(diagnosis_.get(), &question, sizeof question, 0) < 0) return os_error("send", "sock_diag");
  alignas(nlmsghdr) char answer[4096];
  const ssize_t count = ::recv(diagnosis_.get(), answer, sizeof answer, 0);
  if (count < 0) return os_error("recv", "sock_diag");
  const auto* header = reinterpret_cast<const nlmsghdr*>(answer);
  if (!NLMSG_OK(header, static_cast<std::size_t>(count)) || header->nlmsg_type != SOCK_DIAG_BY_FAMILY) {
    met.shortcoming = "it belongs to another network namespace";
    return {};
  }
  int left = static_cast<int>(NLMSG_PAYLOAD(header, sizeof(unix_diag_msg)));
  const auto* body = static_cast<const unix_diag_msg*>(NLMSG_DATA(header));
  unix_diag_rqlen lengths{};
  for (const auto* attribute = reinterpret_cast<const rtattr*>(body + 1); RTA_OK(attribute, left);
       attribute = RTA_NEXT(attribute, left)) {
    if (attribute->rta_type == UNIX_DIAG_PEER) {
      std::uint32_t peer = 0;
      std::memcpy(&peer, RTA_DATA(attribute), sizeof peer);
      met.peer_inode = peer;
      met.state.peer_is_gone = peer == 0;  // or not accepted yet, which find_peers tells by the shutdown
    } else if (attribute->rta_type == UNIX_DIAG_RQLEN) {
      std::memcpy(&lengths, RTA_DATA(attribute), sizeof lengths);
    } else if (attribute->rta_type == UNIX_DIAG_SHUTDOWN) {
      std::memcpy(&met.state.shutdown, RTA_DATA(attribute), 1);
    }
  }
  if (met.state.listens) {
    met.state.backlog = static_cast<int>(lengths.udiag_wqueue);
    if (lengths.udiag_rqueue > 0) met.shortcoming = "connections wait to be accepted, which are not captured";
  }
  return {};
}

// Nothing is known of it where the node was removed, or lies on an overlay that was left.
void SocketReader::find_node(Met& met) const {
  UniqueFd node(::ioctl(met.duplicate.get(), SIOCUNIXFILE));
  if (!node) {
    // On the host's network we may not ask (CAP_NET_ADMIN): what lies at the path is taken for it.
    const std::string path = met.state.bound_path();
    if (!path.starts_with('/')) return;
    Result<UniqueFd> found = sys::open_at(AT_FDCWD, path, O_PATH | O_NOFOLLOW);
    if (!found.ok()) return;
    node = found.release_value();
  }
  const Result<struct statx> info = sys::statx_at(node.get(), "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_MNT_ID);
  const Result<std::string> path = sys::read_link_at(self_fd_dir_, std::to_string(node.get()));
  if (!info.ok() || !path.ok() || !S_ISSOCK(info.value().stx_mode)) return;
  // Those of overlays that were left have paths, too: by these something else is reached.
  const Result<UniqueFd> seen = sys::open_at(AT_FDCWD, path.value(), O_PATH | O_NOFOLLOW);
  if (!seen.ok()) return;
  const Result<struct stat> reached = sys::stat_fd(seen.value().get());
  const Result<struct stat> own = sys::stat_fd(node.get());
  if (!reached.ok() || !own.ok() || reached.value().st_dev != own.value().st_dev ||
      reached.value().st_ino != own.value().st_ino) {
    return;
  }
  SocketNode& known = met.state.node;
  known.path = path.value();
  known.mode = own.value().st_mode & 07777;
  known.uid = own.value().st_uid;
  known.gid = own.value().st_gid;
  known.times[0] = own.value().st_atim;
  known.times[1] = own.value().st_mtim;
  for (std::size_t index = 0; index < volumes_.size(); ++index) {
    if (volumes_[index].mount_id == info.value().stx_mnt_id) known.volume = static_cast<int>(index);
  }
}

Result<void> SocketReader::read_one(Met& met, std::uint64_t inode) {
  const int fd = met.duplicate.get();
  SocketState& state = met.state;
  state.family = get_int(fd, SOL_SOCKET, SO_DOMAIN);
  state.type = get_int(fd, SOL_SOCKET, SO_TYPE);
  state.protocol = get_int(fd, SOL_SOCKET, SO_PROTOCOL);
  const bool is_inet = state.family == AF_INET || state.family == AF_INET6;
  const bool is_udp = is_inet && state.type == SOCK_DGRAM && state.protocol == IPPROTO_UDP;
  if (!state.is_unix() && !is_udp && !(is_inet && state.is_tcp())) {
    met.shortcoming = "its state is not captured";
    return {};
  }
  met.is_known = true;
  socklen_t size = sizeof state.cookie;
  if (::getsockopt(fd, SOL_SOCKET, SO_COOKIE, &state.cookie, &size) != 0) return os_error("SO_COOKIE", "socket");
  state.listens = get_int(fd, SOL_SOCKET, SO_ACCEPTCONN) != 0;
  state.name = read_name(::getsockname, fd);
  state.peer_name = read_name(::getpeername, fd);
  state.options = read_options(fd, state);
  if (state.is_unix()) TRY(diagnose_unix(met, inode));
  if (state.has_path() && (state.listens || state.is_unix_datagram())) find_node(met);
  if (state.is_tcp()) read_tcp(fd, state, met.shortcoming);
  if (state.listens || !met.shortcoming.empty()) return {};
  if (state.is_stream()) {
    if (state.is_connected() || state.is_over()) TRY(read_stream_queue(fd, state, met.shortcoming));
  } else {
    TRY(read_datagrams(fd, state, met.shortcoming));
  }
  return {};
}

void SocketReader::find_peers(const TreeImage& image) {
  for (Met& met : met_) {
    SocketState& state = met.state;
    if (!met.is_known || !state.is_connected() || !(state.is_unix() || state.is_tcp())) continue;
    const auto peer = std::find_if(met_.begin(), met_.end(), [&](const Met& other) {
      if (!other.is_known || other.state.listens || other.state.family != state.family) return false;
      const std::uint64_t inode = image.descriptions[met.description].inode;
      if (state.is_unix()) {
        return met.peer_inode != 0 && image.descriptions[other.description].inode == met.peer_inode &&
               other.peer_inode == inode;
      }
      return other.state.protocol == state.protocol && other.state.name == state.peer_name &&
             other.state.peer_name == state.name;
    });
    if (peer != met_.end()) {
      state.peer_cookie = peer->state.cookie;
      state.node = {};  // nothing binds one that is connected to another such
      continue;
    }
    if (state.is_unix_datagram() && find_target(met, image)) continue;
    if (!met.shortcoming.empty()) continue;
    if (state.is_unix()) {
      const bool was_closed = state.peer_is_gone && state.shutdown == (kShutReceive | kShutSend);
      if (!was_closed) {
        state.peer_is_gone = false;
        met.shortcoming = "no process of the sandbox holds its other end";
      }
    } else if (state.is_tcp()) {
      // A closed end that was closed by its process too leaves nothing that the sandbox could still hear from.
      const bool is_loopback = state.shutdown != 0 && (state.shutdown & kShutReceive) != 0;
      state.peer_is_gone = is_loopback;
      if (!is_loopback) met.shortcoming = "its other end is held by no process of the sandbox";
    }
  }
}

// To whom a datagram socket sends that is not connected to it.
bool SocketReader::find_target(Met& met, const TreeImage& image) {
  const auto target = std::find_if(met_.begin(), met_.end(), [&](const Met& other) {
    return met.peer_inode != 0 && other.state.is_unix_datagram() &&
           image.descriptions[other.description].inode == met.peer_inode;
  });
  if (target == met_.end()) return false;
  if (met.shortcoming.empty() && !met.state.queue.empty()) {
    met.shortcoming = "what waits in it came from a socket that is not connected to it";
  }
  if (met.shortcoming.empty()) {
    met.state.target_cookie = target->state.cookie;
  } else if (target->shortcoming.empty()) {
    // To connect it again would take from it what waits.
    target->shortcoming = "a socket is connected to it which can't be connected again";
  }
  return true;
}

Result<void> SocketReader::read(TreeImage& image, TreeCapture& capture, std::vector<Notice>& warnings) {
  if (met_.empty()) return {};
  TRY(open_diagnosis(image, capture));
  for (Met& met : met_) TRY(read_one(met, image.descriptions[met.description].inode));
  find_peers(image);
  for (Met& met : met_) {
    Description& description = image.descriptions[met.description];
    if (met.is_known) {
      description.kind = DescriptionKind::kSocket;
      met.state.is_complete = met.shortcoming.empty();
      // A connection that accept(2) made has the listener's path without being bound to it.
      if (!met.state.is_complete) {
        met.shortcoming = "kept as it is while it stays open: " + met.shortcoming;
      } else if (met.state.has_path() && (met.state.listens || met.state.is_unix_datagram())) {
        if (met.state.node.path.empty() && met.state.peer_cookie == 0) {
          met.shortcoming = "no path leads to it any more: it stays as it is while it stays open";
        } else if (met.state.peer_cookie != 0 || !can_be_made(met.state)) {
          met.shortcoming = "its path stops to lead to it when its volume is sealed";
        }
      }
      description.socket = std::make_shared<const SocketState>(std::move(met.state));
    } else {
      met.shortcoming = "kept as it is while it stays open: " + met.shortcoming;
    }
    if (!met.shortcoming.empty()) {
      warnings.push_back({met.pid.value, "socket", "descriptor " + std::to_string(met.fd) + ": " + met.shortcoming});
    }
  }
  met_.clear();
  return {};
}

}  // namespace deltabox
