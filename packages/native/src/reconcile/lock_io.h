// Takes locks on behalf of frozen processes.
#pragma once

#include <vector>

#include "base/result.h"
#include "deltacr/capture.h"
#include "deltacr/image.h"

namespace deltabox {

// Locks that belong to a description, through any descriptor of it. Returns the first refusal; the others are taken.
Result<void> take_description_locks(int fd, const std::vector<FileLock>& locks);

// POSIX locks belong to a process, which has to take them itself; closing any descriptor of the file gives them up, so
// this comes after all installing and mapping. `locks` are of descriptors that the process has now.
Result<void> take_process_locks(HeldProcess& held, const std::vector<ProcessLock>& locks);
Result<void> drop_process_locks(HeldProcess& held, const std::vector<ProcessLock>& locks);

}  // namespace deltabox
