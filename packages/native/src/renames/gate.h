// Keeps renames out of a pause: memory shared by the engine and the renames process.
//
// A call is *in flight* from the moment it is received until it is answered; its task sleeps through all signals, so it
// can't be frozen. The engine closes the gate before it freezes: it waits for the calls in flight, and further ones are
// not received until it opens the gate again. Those tasks can be frozen; their calls begin again afterwards.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/result.h"

namespace deltabox::renames {

class Gate {
 public:
  // Slot 0 is the process's own, each other one belongs to a child that moves a directory.
  static constexpr std::size_t kSlots = 9;

  static Result<Gate> create();
  Gate(Gate&& other) noexcept;
  Gate& operator=(Gate&& other) noexcept;
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;
  ~Gate();

  // The engine's side. False when calls are still in flight after the time-out; the gate is then open again.
  bool close(std::uint64_t timeout_ms);
  void open();
  // The ids of calls in flight whose process died; they count as having left.
  std::vector<std::uint64_t> abandoned();

  // The process's side. `enter` waits while the gate is closed.
  void enter(std::size_t slot);
  void set_id(std::size_t slot, std::uint64_t id);
  // Hands a call on, from the process to its child.
  void move(std::size_t from, std::size_t to);
  void leave(std::size_t slot);
  bool is_used(std::size_t slot) const;
  std::uint64_t id(std::size_t slot) const;

 private:
  struct Shared {
    std::atomic<std::uint32_t> word;  // one bit for each slot in use, and kClosed
    std::array<std::atomic<std::uint64_t>, kSlots> ids;
  };
  explicit Gate(Shared* shared) : shared_(shared) {}

  Shared* shared_ = nullptr;
};

}  // namespace deltabox::renames
