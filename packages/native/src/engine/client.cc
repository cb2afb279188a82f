#include "engine/client.h"

#include <sys/socket.h>

#include <cerrno>
#include <string>

#include "base/clock.h"
#include "sys/sockets.h"

namespace deltabox {

namespace {

constexpr std::size_t kMaxUnsentBytes = 64u << 20;
constexpr std::uint64_t kStuckMs = 5000;

}  // namespace

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

void Client::send(const v1::EngineFrame& frame, std::vector<UniqueFd> fds) {
  if (broken_) return;
  Message message;
  message.bytes = encode_header(frame.ByteSizeLong(), fds.size());
  frame.AppendToString(&message.bytes);
  message.fds = std::move(fds);
  unsent_bytes_ += message.bytes.size();
  if (unsent_.empty()) moved_ms_ = monotonic_ns() / 1'000'000;
  unsent_.push_back(std::move(message));
  send_rest();
  if (unsent_bytes_ > kMaxUnsentBytes) broken_ = true;
}

void Client::send_rest() {
  while (!unsent_.empty() && !broken_) {
    Message& message = unsent_.front();
    std::vector<int> fds;
    if (message.sent == 0) {
      for (const UniqueFd& sending : message.fds) fds.push_back(sending.get());
    }
    const Result<std::size_t> sent =
        sys::send_some(fd(), message.bytes.data() + message.sent, message.bytes.size() - message.sent, fds);
    if (!sent.ok()) {
      broken_ = true;
      return;
    }
    if (sent.value() == 0) return;
    message.sent += sent.value();
    unsent_bytes_ -= sent.value();
    moved_ms_ = monotonic_ns() / 1'000'000;
    if (message.sent < message.bytes.size()) return;
    unsent_.pop_front();
  }
}

void Client::give_up_if_stuck(std::uint64_t now_ms) {
  if (has_unsent() && now_ms - moved_ms_ > kStuckMs) broken_ = true;
}

}  // namespace deltabox
