// What a process has beside memory and descriptors, put back: signals, attributes, what its threads registered with the
// kernel, registers.
#pragma once

#include "base/result.h"
#include "deltacr/capture.h"
#include "deltacr/image.h"
#include "reconcile/apply.h"

namespace deltabox {

// A thread whose rseq area is about to be unmapped would be killed on its next return to user space; one that had none
// yet will register it itself, and must find that free.
Result<void> forget_rseq(HeldProcess& held, const ProcessImage& live, const ProcessImage& target);
// Once the mappings are the target's.
Result<void> restore_kernel_pointers(HeldProcess& held, const ProcessImage& live, const ProcessImage& target);

Result<void> apply_signals_and_attributes(ApplyContext& context, HeldProcess& held, const ProcessImage& live,
                                          const ProcessImage& target, ApplyOutcome& outcome);

// After the last run of the parasite.
Result<void> apply_registers(HeldProcess& held, const ProcessImage& live, const ProcessImage& target,
                             TimedCalls& timed_calls);

}  // namespace deltabox
