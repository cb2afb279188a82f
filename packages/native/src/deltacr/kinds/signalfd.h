// signalfd(2). The signals themselves are pending to their threads and processes.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"

namespace deltabox {

struct SignalfdState {
  std::uint64_t mask = 0;  // what it accepts
  bool operator==(const SignalfdState&) const = default;
};

Result<SignalfdState> parse_signalfd(const std::string& fdinfo);

}  // namespace deltabox
