// One connected client: its socket, its half-read frame, and the way to answer it.
#pragma once

#include <cstdint>
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
  // Answers; a client that does not read for 5 s is taken for dead.
  void send(const v1::EngineFrame& frame, const std::vector<int>& fds = {});
  bool is_broken() const { return broken_; }

 private:
  ClientId id_;
  UniqueFd socket_;
  FrameReader reader_;
  bool broken_ = false;
};

}  // namespace deltabox
