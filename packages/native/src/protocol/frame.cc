#include "protocol/frame.h"

#include <cstring>
#include <iterator>

namespace deltabox {

namespace {
constexpr char kMagic[4] = {'D', 'B', 'X', '1'};

template <typename T>
T read_little_endian(const char* bytes) {
  T value = 0;
  for (std::size_t index = 0; index < sizeof(T); ++index) {
    value =
        static_cast<T>(value | static_cast<T>(static_cast<T>(static_cast<unsigned char>(bytes[index])) << (8 * index)));
  }
  return value;
}

template <typename T>
void append_little_endian(std::string& text, T value) {
  for (std::size_t index = 0; index < sizeof(T); ++index) text += static_cast<char>(value >> (8 * index) & 0xff);
}
}  // namespace

std::string encode_header(std::size_t payload_bytes, std::size_t fd_count) {
  std::string header(kMagic, sizeof kMagic);
  append_little_endian(header, kProtocolVersion);
  append_little_endian(header, static_cast<std::uint16_t>(fd_count));
  append_little_endian(header, static_cast<std::uint32_t>(payload_bytes));
  return header;
}

Result<void> FrameReader::feed(const char* data, std::size_t size_bytes, std::vector<UniqueFd> fds) {
  if (buffer_.size() + size_bytes > kMaxPayloadBytes + 2 * kHeaderBytes + (1u << 20)) {
    return make_error(Code::kProtocol, "a client sends more than its frames may hold");
  }
  if (fds_.size() + fds.size() > 4 * kMaxFrameFds)
    return make_error(Code::kProtocol, "a client sends too many descriptors");
  buffer_.append(data, size_bytes);
  fds_.insert(fds_.end(), std::make_move_iterator(fds.begin()), std::make_move_iterator(fds.end()));
  return {};
}

Result<std::optional<Frame>> FrameReader::next() {
  if (buffer_.size() < kHeaderBytes) return std::optional<Frame>();
  if (std::memcmp(buffer_.data(), kMagic, sizeof kMagic) != 0)
    return make_error(Code::kProtocol, "not a DeltaBox frame");
  const auto version = read_little_endian<std::uint16_t>(buffer_.data() + 4);
  const auto fd_count = read_little_endian<std::uint16_t>(buffer_.data() + 6);
  const auto payload_bytes = read_little_endian<std::uint32_t>(buffer_.data() + 8);
  if (version != kProtocolVersion) {
    return make_error(Code::kProtocol,
                      "protocol version " + std::to_string(version) + " is not " + std::to_string(kProtocolVersion));
  }
  if (payload_bytes > kMaxPayloadBytes || fd_count > kMaxFrameFds)
    return make_error(Code::kProtocol, "frame too large");
  if (buffer_.size() < kHeaderBytes + payload_bytes) return std::optional<Frame>();
  // A frame's descriptors come beside its first byte, so they are here when its last byte is.
  if (fds_.size() < fd_count) return make_error(Code::kProtocol, "a frame lacks its descriptors");
  Frame frame;
  frame.payload = buffer_.substr(kHeaderBytes, payload_bytes);
  buffer_.erase(0, kHeaderBytes + payload_bytes);
  frame.fds.insert(frame.fds.end(), std::make_move_iterator(fds_.begin()),
                   std::make_move_iterator(fds_.begin() + fd_count));
  fds_.erase(fds_.begin(), fds_.begin() + fd_count);
  return std::optional<Frame>(std::move(frame));
}

}  // namespace deltabox
