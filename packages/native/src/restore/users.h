// Lets a process that was made act as its users and groups, with all the capabilities that its maker had: what it makes
// next shows its owner (sockets tell their peers), and may still need rights that the target has dropped (low ports).
#pragma once

#include "base/result.h"
#include "deltacr/capture.h"
#include "deltacr/image.h"

namespace deltabox {

// `made` describes the process and is kept true. What is refused is tried again, and told, by the apply.
Result<void> assume_users(HeldProcess& held, ProcessImage& made, const ProcessImage& target);

}  // namespace deltabox
