// eventfd(2).
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"

namespace deltabox {

struct EventfdState {
  std::uint64_t count = 0;
  bool semaphore = false;  // EFD_SEMAPHORE, fixed at its making
  bool operator==(const EventfdState&) const = default;
};

Result<EventfdState> parse_eventfd(const std::string& fdinfo);

}  // namespace deltabox
