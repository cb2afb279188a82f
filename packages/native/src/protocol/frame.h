// The outer header of the wire, frozen for all versions, and the bounds of what may follow it (deltabox.proto).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace deltabox {

inline constexpr std::uint16_t kProtocolVersion = 1;
inline constexpr std::size_t kMaxPayloadBytes = 16u << 20;
inline constexpr std::size_t kMaxFrameFds = 16;
inline constexpr std::size_t kHeaderBytes = 12;

struct Frame {
  std::string payload;
  std::vector<UniqueFd> fds;
};

std::string encode_header(std::size_t payload_bytes, std::size_t fd_count);

// Puts a stream of bytes and descriptors together to frames. Everything that comes in is bounded and checked.
class FrameReader {
 public:
  Result<void> feed(const char* data, std::size_t size_bytes, std::vector<UniqueFd> fds);
  // The next complete frame, if there is one.
  Result<std::optional<Frame>> next();

 private:
  std::string buffer_;
  std::vector<UniqueFd> fds_;
};

}  // namespace deltabox
