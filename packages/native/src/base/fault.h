// Points at which a test lets the engine die, as a crash would: DELTABOX_FAULT names one of them, and after a colon how
// often it is passed before (state-written:2). Nothing else sets the variable.
#pragma once

#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <cstring>

namespace deltabox {

enum class FaultPoint {
  kBeforeHandOver,
  kAfterHandOver,      // sealed copies are in place, nothing is switched yet
  kAfterSwitch,        // tasks still stand
  kAfterThaw,          // tasks run, nothing is written down yet
  kCheckpointWritten,  // its record is there, the live state's is the one before
  kStateWritten,
  kBeforeRemoval,  // of layers that nothing refers to
};

inline void fault_point(FaultPoint point) {
  static constexpr const char* kNames[] = {"before-hand-over",   "after-hand-over", "after-switch",  "after-thaw",
                                           "checkpoint-written", "state-written",   "before-removal"};
  static const char* const wanted = std::getenv("DELTABOX_FAULT");
  if (wanted == nullptr) return;
  const char* name = kNames[static_cast<int>(point)];
  const std::size_t length = std::strlen(name);
  if (std::strncmp(wanted, name, length) != 0 || (wanted[length] != '\0' && wanted[length] != ':')) return;
  static int passes = wanted[length] == ':' ? std::atoi(wanted + length + 1) : 0;
  if (passes-- == 0) ::kill(::getpid(), SIGKILL);
}

}  // namespace deltabox
