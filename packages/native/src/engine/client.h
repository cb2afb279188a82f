// One connected client: its socket, its half-read frame, and what it has not taken yet.
//
// Sending never waits. What the socket does not take at once is queued; a client whose queue does not move for 5 s, or
// grows beyond 64 MiB, is taken for dead.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "deltabox.pb.h"
#include "protocol/frame.h"

namespace deltabox {

using ClientId = std::uint64_t;

class Client {
 public:
  Client(ClientId id, UniqueFd socket) : id_(id), socket_(std::move(socket)) {}
  ClientId id() const { return id_; }
  int fd() const { return socket_.get(); }

  // Reads what is there. False when the client is gone or broke the protocol; its frames so far are still valid.
  bool receive(std::vector<Frame>& frames);
  void send(const v1::EngineFrame& frame, std::vector<UniqueFd> fds = {});
  bool has_unsent() const { return !unsent_.empty(); }
  // Output should not be read for a client that does not keep up.
  bool is_congested() const { return unsent_bytes_ > kCongestedBytes; }
  void send_rest();
  bool is_broken() const { return broken_; }
  // Breaks it when nothing left for too long.
  void give_up_if_stuck(std::uint64_t now_ms);

 private:
  static constexpr std::size_t kCongestedBytes = 1u << 20;
  struct Message {
    std::string bytes;
    std::size_t sent = 0;
    std::vector<UniqueFd> fds;  // go with the first byte
  };

  ClientId id_;
  UniqueFd socket_;
  FrameReader reader_;
  std::deque<Message> unsent_;
  std::size_t unsent_bytes_ = 0;
  std::uint64_t moved_ms_ = 0;  // when the queue last moved
  bool broken_ = false;
};

}  // namespace deltabox
