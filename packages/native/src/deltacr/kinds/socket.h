// Sockets: unix, TCP and UDP, with what waits in their receive queues. Plain data.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <string>
#include <vector>

namespace deltabox {

struct SocketOption {
  int level = 0;
  int name = 0;
  std::string value;
  bool operator==(const SocketOption&) const = default;
};

// The file by which others reach a listener or a datagram socket of unix.
struct SocketNode {
  std::string path;  // inside, without links; empty: none leads to it
  int volume = -1;   // index of the volume it lies on, -1 for the skeleton
  std::uint32_t mode = 0;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  timespec times[2] = {};  // of access and modification
};

struct SocketState {
  std::uint64_t cookie = 0;  // SO_COOKIE: of this one socket, for ever
  int family = 0;
  int type = 0;
  int protocol = 0;
  std::string name;       // its own address, as getsockname(2) has it
  std::string peer_name;  // empty: not connected
  bool listens = false;
  int backlog = 0;                // of unix and TCP listeners
  std::uint64_t peer_cookie = 0;  // the other end, where a process of the image holds it
  bool peer_is_gone = false;      // the other end was closed
  // Of a datagram socket of unix that is connected to one which is not connected to it.
  std::uint64_t target_cookie = 0;
  std::uint8_t shutdown = 0;       // bit 0: it receives no more, bit 1: it sends no more
  std::vector<std::string> queue;  // received and not read; one string for a stream
  bool has_named_senders = false;  // of what waits: senders with an address, which a receiver is shown
  std::vector<SocketOption> options;

  SocketNode node;  // of a listener or datagram socket that has_path()

  bool is_complete = false;  // nothing of it is missing here

  bool is_stream() const;
  bool is_tcp() const;
  bool is_unix() const;
  bool is_unix_datagram() const;
  // Anybody can send again what waits in it.
  bool can_be_filled_by_path() const {
    return is_unix_datagram() && has_path() && peer_cookie == 0 && !has_named_senders;
  }
  bool is_connected() const { return !peer_name.empty(); }
  // A TCP socket whose connection is over, for both: what had arrived can still be read.
  bool is_over() const { return is_tcp() && !is_connected() && shutdown != 0; }
  // A unix socket that was bound to a path.
  bool has_path() const;
  // That path, as it was given to bind(2); empty: none.
  std::string bound_path() const;
};

// What differs between a socket that is still there and what an image says of it. Pure.
struct SocketDifference {
  bool identity = false;  // no call changes it back: another connection, name or end
  bool queue = false;
  bool options = false;
};
SocketDifference difference_of(const SocketState& live, const SocketState& wanted);
// A socket of this kind can be made anew (together with its other end).
bool can_be_made(const SocketState& wanted);

}  // namespace deltabox
