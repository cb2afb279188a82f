#include "frame_io.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "sys_error.h"

namespace deltabox::addon {
namespace {

constexpr uint8_t kMagic[4] = {'D', 'B', 'X', '1'};

template <typename T>
void PutLittleEndian(uint8_t* out, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) out[i] = static_cast<uint8_t>(value >> (8 * i));
}

template <typename T>
T GetLittleEndian(const uint8_t* in) {
  T value = 0;
  for (size_t i = 0; i < sizeof(T); ++i) value = static_cast<T>(value | static_cast<T>(in[i]) << (8 * i));
  return value;
}

void CollectFds(msghdr& message, std::vector<OwnedFd>& fds) {
  for (cmsghdr* control = CMSG_FIRSTHDR(&message); control != nullptr; control = CMSG_NXTHDR(&message, control)) {
    if (control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (control->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(control) + i * sizeof(int), sizeof(int));
      fds.emplace_back(fd);
    }
  }
}

// False when the stream ends before the first byte.
bool ReceiveExactly(int fd, uint8_t* out, size_t size_bytes, std::vector<OwnedFd>& fds) {
  size_t received_bytes = 0;
  while (received_bytes < size_bytes) {
    iovec vector{out + received_bytes, size_bytes - received_bytes};
    alignas(cmsghdr) char control[CMSG_SPACE(kMaxFds * sizeof(int))];
    msghdr message{};
    message.msg_iov = &vector;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    const ssize_t count = ::recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
    if (count < 0) {
      if (errno == EINTR) continue;
      throw SysError(errno, "recvmsg");
    }
    CollectFds(message, fds);
    // Descriptors beyond the bound were dropped by the kernel: the frame can't be honoured.
    if ((message.msg_flags & MSG_CTRUNC) != 0) throw SysError(EPROTO, "frame descriptors");
    if (count == 0) {
      if (received_bytes == 0) return false;
      throw SysError(EPROTO, "frame cut off");
    }
    received_bytes += static_cast<size_t>(count);
  }
  return true;
}

}  // namespace

OutgoingFrame EncodeFrame(const uint8_t* payload, size_t payload_bytes, std::vector<OwnedFd> fds) {
  if (payload_bytes > kMaxPayloadBytes || fds.size() > kMaxFds) throw SysError(EMSGSIZE, "frame");
  OutgoingFrame frame;
  frame.bytes.resize(kHeaderBytes + payload_bytes);
  std::memcpy(frame.bytes.data(), kMagic, sizeof(kMagic));
  PutLittleEndian<uint16_t>(&frame.bytes[4], kFrameVersion);
  PutLittleEndian<uint16_t>(&frame.bytes[6], static_cast<uint16_t>(fds.size()));
  PutLittleEndian<uint32_t>(&frame.bytes[8], static_cast<uint32_t>(payload_bytes));
  if (payload_bytes > 0) std::memcpy(&frame.bytes[kHeaderBytes], payload, payload_bytes);
  frame.fds = std::move(fds);
  return frame;
}

bool SendSome(int fd, OutgoingFrame& frame, int flags) {
  while (!frame.Done()) {
    iovec vector{frame.bytes.data() + frame.sent_bytes, frame.bytes.size() - frame.sent_bytes};
    msghdr message{};
    message.msg_iov = &vector;
    message.msg_iovlen = 1;
    alignas(cmsghdr) char control[CMSG_SPACE(kMaxFds * sizeof(int))] = {};
    if (frame.sent_bytes == 0 && !frame.fds.empty()) {
      message.msg_control = control;
      message.msg_controllen = CMSG_SPACE(frame.fds.size() * sizeof(int));
      cmsghdr* rights = CMSG_FIRSTHDR(&message);
      rights->cmsg_level = SOL_SOCKET;
      rights->cmsg_type = SCM_RIGHTS;
      rights->cmsg_len = CMSG_LEN(frame.fds.size() * sizeof(int));
      for (size_t i = 0; i < frame.fds.size(); ++i) {
        const int sent_fd = frame.fds[i].Get();
        std::memcpy(CMSG_DATA(rights) + i * sizeof(int), &sent_fd, sizeof(int));
      }
    }
    const ssize_t count = ::sendmsg(fd, &message, flags | MSG_NOSIGNAL);
    if (count < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) return false;
      throw SysError(errno, "sendmsg");
    }
    frame.sent_bytes += static_cast<size_t>(count);
  }
  return true;
}

std::optional<Frame> ReceiveFrame(int fd) {
  Frame frame;
  uint8_t header[kHeaderBytes];
  if (!ReceiveExactly(fd, header, sizeof(header), frame.fds)) return std::nullopt;
  const auto fd_count = GetLittleEndian<uint16_t>(header + 6);
  const auto payload_bytes = GetLittleEndian<uint32_t>(header + 8);
  if (std::memcmp(header, kMagic, sizeof(kMagic)) != 0) throw SysError(EPROTO, "frame magic");
  if (GetLittleEndian<uint16_t>(header + 4) != kFrameVersion) throw SysError(EPROTO, "frame version");
  if (payload_bytes > kMaxPayloadBytes) throw SysError(EPROTO, "frame length");
  frame.payload.resize(payload_bytes);
  if (payload_bytes > 0 && !ReceiveExactly(fd, frame.payload.data(), payload_bytes, frame.fds)) {
    throw SysError(EPROTO, "frame cut off");
  }
  if (frame.fds.size() != fd_count) throw SysError(EPROTO, "frame descriptors");
  return frame;
}

}  // namespace deltabox::addon
