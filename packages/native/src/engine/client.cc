#include "engine/client.h"

#include <sys/socket.h>

#include <cerrno>
#include <string>

#include "sys/sockets.h"

namespace deltabox {

bool Client::receive(std::vector<Frame>& frames) {
  static thread_local std::vector<char> buffer(std::size_t{256} * 1024);
  Result<sys::Received> received = sys::receive_with_fds(fd(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (!received.ok()) return received.error().os_errno == EAGAIN;
  if (received.value().size_bytes == 0) return false;
  Result<void> fed = reader_.feed(buffer.data(), received.value().size_bytes, std::move(received.value().fds));
  if (!fed.ok()) return false;
  for (;;) {
    Result<std::optional<Frame>> frame = reader_.next();
    if (!frame.ok()) {
      v1::EngineFrame answer;
      answer.mutable_failure()->set_code(std::string(code_name(frame.error().code)));
      answer.mutable_failure()->set_message(frame.error().describe());
      send(answer);
      return false;
    }
    if (!frame.value()) return true;
    frames.push_back(std::move(*frame.value()));
  }
}

void Client::send(const v1::EngineFrame& frame, const std::vector<int>& fds) {
  if (broken_) return;
  std::string message = encode_header(frame.ByteSizeLong(), fds.size());
  frame.AppendToString(&message);
  const Result<void> sent = sys::send_with_fds(fd(), message.data(), message.size(), fds);
  if (!sent.ok()) broken_ = true;
}

}  // namespace deltabox
