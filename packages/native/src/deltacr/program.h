// What execve(2) left in a process: its executable and the layout that the kernel remembers for it.
#pragma once

#include <memory>

#include "base/result.h"
#include "deltacr/image.h"

namespace deltabox {

// Read once for each address space: tasks could change the layout (PR_SET_MM_MAP), and hardly ever do.
Result<std::shared_ptr<const ProgramImage>> read_program(int proc_fd, HostTid pid);

}  // namespace deltabox
