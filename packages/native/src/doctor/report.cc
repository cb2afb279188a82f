#include "doctor/report.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <type_traits>

namespace deltabox::doctor {

namespace {

struct Packet {
  bool ok = false;
  Code code = Code::kInternal;
  int os_errno = 0;
  std::size_t text_bytes = 0;  // the detail, or the error's sentence
  std::size_t next_bytes = 0;
  char text[3000] = {};
  char next[1000] = {};
};
static_assert(sizeof(Packet) <= 4096 && std::is_trivially_copyable_v<Packet>);

}  // namespace

void send_report(int fd, const Result<std::string>& result) {
  Packet packet;
  packet.ok = result.ok();
  if (result.ok()) {
    packet.text_bytes = result.value().copy(packet.text, sizeof packet.text);
  } else {
    const Error& error = result.error();
    packet.code = error.code;
    packet.os_errno = error.os_errno;
    packet.text_bytes = error.describe().copy(packet.text, sizeof packet.text);
    packet.next_bytes = error.next_step.copy(packet.next, sizeof packet.next);
  }
  // Nobody is left to tell when the parent is gone.
  [[maybe_unused]] const ssize_t count = ::write(fd, &packet, sizeof packet);
}

Result<std::string> receive_report(int fd) {
  Packet packet;
  ssize_t count;
  do {
    count = ::read(fd, &packet, sizeof packet);
  } while (count < 0 && errno == EINTR);
  if (count < 0) return os_error("read", "a probe's report");
  if (count != static_cast<ssize_t>(sizeof packet)) {
    return make_error(Code::kInternal, "the probe was killed while it ran");
  }
  std::string text(packet.text, std::min(packet.text_bytes, sizeof packet.text));
  if (packet.ok) return text;
  Error error = make_error(packet.code, std::move(text),
                           std::string(packet.next, std::min(packet.next_bytes, sizeof packet.next)));
  error.os_errno = packet.os_errno;
  return error;
}

}  // namespace deltabox::doctor
