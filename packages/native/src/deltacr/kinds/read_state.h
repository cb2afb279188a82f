// Reads the state of an object whose kind is known by its name in /proc ("eventfd", "timerfd", …).
#pragma once

#include <string>

#include "base/ids.h"
#include "base/result.h"
#include "deltacr/kinds/state.h"

namespace deltabox {

struct ObjectSource {
  int proc_fd = -1;
  HostTid pid;
  int fd = -1;         // of the process
  int duplicate = -1;  // of the engine
};

// monostate for kinds that are not captured.
Result<ObjectState> read_object_state(const std::string& type, const ObjectSource& source);

}  // namespace deltabox
