#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "owned_fd.h"

namespace deltabox::addon {

// The outer header, frozen for all versions: "DBX1", version u16 LE, descriptor count u16 LE, payload length u32 LE.
inline constexpr size_t kHeaderBytes = 12;
inline constexpr uint16_t kFrameVersion = 1;
// Bounds of the wire: see the head comment of deltabox.proto.
inline constexpr size_t kMaxPayloadBytes = 16u << 20;
inline constexpr size_t kMaxFds = 16;

struct Frame {
  std::vector<uint8_t> payload;
  std::vector<OwnedFd> fds;
};

// A frame on its way out: header and payload in one block, since the descriptors travel beside its first byte.
struct OutgoingFrame {
  std::vector<uint8_t> bytes;
  std::vector<OwnedFd> fds;
  size_t sent_bytes = 0;

  [[nodiscard]] bool Done() const { return sent_bytes == bytes.size(); }
};

[[nodiscard]] OutgoingFrame EncodeFrame(const uint8_t* payload, size_t payload_bytes, std::vector<OwnedFd> fds);

// Sends what the socket takes; false when it would block. Throws SysError. `flags` may hold MSG_DONTWAIT.
[[nodiscard]] bool SendSome(int fd, OutgoingFrame& frame, int flags);

// Blocks for one whole frame; nothing at the end of the stream between two frames. Throws SysError, EPROTO for a
// frame that breaks the format.
[[nodiscard]] std::optional<Frame> ReceiveFrame(int fd);

}  // namespace deltabox::addon
