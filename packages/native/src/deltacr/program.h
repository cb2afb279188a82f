// What execve(2) left in a process: its executable and the layout that the kernel remembers for it.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "deltacr/image.h"

namespace deltabox {

// Read once for each address space: tasks could change the layout (PR_SET_MM_MAP), and hardly ever do.
// `overlay`: where the overlay of its executable was, when it is at no path any more; else empty.
Result<std::shared_ptr<const ProgramImage>> read_program(int proc_fd, HostTid pid, const std::string& overlay);

}  // namespace deltabox
