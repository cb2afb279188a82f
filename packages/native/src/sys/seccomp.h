// The listener of a seccomp filter: calls that answer SECCOMP_RET_USER_NOTIF wait for whoever holds it
// (seccomp_unotify(2)).
#pragma once

#include <linux/seccomp.h>

#include <cstdint>

#include "base/ids.h"
#include "base/result.h"

namespace deltabox::sys {

struct Notification {
  std::uint64_t id = 0;
  HostTid tid;
  seccomp_data call{};
};

// ENOENT where the call was interrupted before it could be received.
Result<Notification> receive_notification(int listener_fd);
// The call returns 0, or fails with error_number.
Result<void> answer_notification(int listener_fd, std::uint64_t id, int error_number);
// The kernel carries the call out as if nobody had asked.
Result<void> pass_notification(int listener_fd, std::uint64_t id);
// False once the task is gone, and then its tid may be another's.
bool is_notification_waiting(int listener_fd, std::uint64_t id);
// The answering thread expects to sleep at once (6.6): the kernel then runs both sides on one processor.
Result<void> set_synchronous_wake_up(int listener_fd);

}  // namespace deltabox::sys
