// Children that a frozen process is made to have, and their ends.
#pragma once

#include "base/ids.h"
#include "base/result.h"
#include "parasite/session.h"

namespace deltabox {

// Where a task can be made to call clone.
struct Maker {
  parasite::Session* session = nullptr;
  RemoteAddress instruction;  // a `syscall` of its address space
};

// Lets the parent collect a child that has ended.
Result<void> reap(const Maker& parent, InsidePid child);
// Kills a task that was made and collects what its tracer has to; its parent still has to reap it.
void end_task(HostTid pid);

}  // namespace deltabox
