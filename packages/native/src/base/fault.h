// Points at which a test lets the engine die, as a crash would: DELTABOX_FAULT names one of them, and after a colon how
// often it is passed before (state-written:2). With ":stop" at the end it stops there instead, for its client to die
// meanwhile; with ":pause" the thread that comes there waits for a second. Nothing else sets the variable. The tests
// read the list from here.
#pragma once

#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <cstring>

// In the order in which a checkpoint passes them; a rollback and a deletion pass those of theirs.
#define DELTABOX_FAULT_POINTS(X)                                                                              \
  X(kBeforeFreeze, "before-freeze")                                                                           \
  X(kAfterFreeze, "after-freeze")                                                                             \
  X(kAfterCapture, "after-capture")                                                                           \
  X(kBeforeHandOver, "before-hand-over")                                                                      \
  X(kBetweenNames, "between-names")      /* of a file that goes over: some of its links have a sealed copy */ \
  X(kAfterHandOver, "after-hand-over")   /* sealed copies are in place, nothing is switched yet */            \
  X(kAfterOneSwitch, "after-one-switch") /* the other volumes are as they were */                             \
  X(kFilesCorrected, "files-corrected")  /* in a rollback: open files of one volume have the old contents */  \
  X(kAfterSwitch, "after-switch")        /* tasks still stand */                                              \
  X(kBeforeThaw, "before-thaw")                                                                               \
  X(kAfterThaw, "after-thaw")                 /* tasks run, nothing is written down yet */                    \
  X(kRecordBeside, "record-beside")           /* a record is written and not yet in its place */              \
  X(kCheckpointWritten, "checkpoint-written") /* its record is there, the live state's is the one before */   \
  X(kStateWritten, "state-written")                                                                           \
  X(kParkedReleased, "parked-released")                                                                       \
  X(kSealsStaged, "seals-staged")                                                                             \
  X(kMarkRemoved, "mark-removed")     /* of a checkpoint that is deleted, whose record is still there */      \
  X(kBeforeRemoval, "before-removal") /* of layers that nothing refers to */                                  \
  X(kLayerEmptied, "layer-emptied")   /* its directory is still there */                                      \
  X(kBeforeMerge, "before-merge")                                                                             \
  X(kAfterMerge, "after-merge")     /* the merged layer is whole, nothing refers to it */                     \
  X(kPagesWritten, "pages-written") /* of an image that is not there yet */                                   \
  X(kImageBeside, "image-beside")   /* an image is written and not yet in its place */                        \
  X(kDigestWritten, "digest-written")                                                                         \
  X(kBeforeSync, "before-sync")                                                                               \
  X(kAfterSync, "after-sync") /* no checkpoint of this sync has its mark yet */                               \
  X(kMarked, "marked")

namespace deltabox {

enum class FaultPoint {
#define DELTABOX_FAULT_POINT_ID(id, name) id,
  DELTABOX_FAULT_POINTS(DELTABOX_FAULT_POINT_ID)
#undef DELTABOX_FAULT_POINT_ID
};

// Whether the environment names this point, and this is the pass that it names.
inline bool fault_is_due(FaultPoint point) {
  static constexpr const char* kNames[] = {
#define DELTABOX_FAULT_POINT_NAME(id, name) name,
      DELTABOX_FAULT_POINTS(DELTABOX_FAULT_POINT_NAME)
#undef DELTABOX_FAULT_POINT_NAME
  };
  static const char* const wanted = std::getenv("DELTABOX_FAULT");
  if (wanted == nullptr) return false;
  const char* name = kNames[static_cast<int>(point)];
  const std::size_t length = std::strlen(name);
  if (std::strncmp(wanted, name, length) != 0 || (wanted[length] != '\0' && wanted[length] != ':')) return false;
  static std::atomic<int> passes{wanted[length] == ':' ? std::atoi(wanted + length + 1) : 0};
  return passes-- == 0;
}

inline bool fault_has_mode(const char* mode) {
  const char* const wanted = std::getenv("DELTABOX_FAULT");
  return wanted != nullptr && std::strstr(wanted, mode) != nullptr;
}

// The engine ends here, or with ":stop" stands still. On any thread.
inline void fault_point(FaultPoint point) {
  if (fault_has_mode(":fail") || !fault_is_due(point)) return;
  if (fault_has_mode(":pause")) {
    ::usleep(1'000'000);
    return;
  }
  ::kill(::getpid(), fault_has_mode(":stop") ? SIGSTOP : SIGKILL);
}

// With ":fail": a step that could fail fails here.
inline bool fault_fails(FaultPoint point) { return fault_has_mode(":fail") && fault_is_due(point); }

}  // namespace deltabox
