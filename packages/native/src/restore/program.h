// Gives a process that was made its program, and clears its address space for the image's.
//
// The program is executed, although not one instruction of it runs: only execve(2) makes the kernel name the right
// executable (/proc/PID/exe), and it leaves memory, handlers and registrations of the parent behind.
#pragma once

#include "base/result.h"
#include "deltacr/capture.h"
#include "deltacr/image.h"

namespace deltabox {

// The process has not been held yet, or is held with this session, which is spent afterwards. A program that can't be
// executed is told as a notice; the process goes on without it.
Result<void> execute(parasite::Session& session, RemoteAddress instruction, RemoteAddress scratch,
                     const ProcessImage& target, std::vector<Notice>& not_restored);

// Unmaps all but the parasite and what the kernel provides, which moves to where the target has it; sets the layout
// that the kernel remembers; closes all descriptors.
Result<void> clear(HeldProcess& held, const ProcessImage& target, std::vector<Notice>& not_restored);

}  // namespace deltabox
