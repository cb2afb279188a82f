#include "sys/seccomp.h"

#include <sys/ioctl.h>

#include <cerrno>
#include <string>

#include "sys/kernel_abi.h"

namespace deltabox::sys {

namespace {

Result<void> send(int listener_fd, const seccomp_notif_resp& response) {
  if (::ioctl(listener_fd, SECCOMP_IOCTL_NOTIF_SEND, &response) != 0) return os_error("SECCOMP_IOCTL_NOTIF_SEND");
  return {};
}

}  // namespace

Result<Notification> receive_notification(int listener_fd) {
  seccomp_notif received{};  // the kernel refuses one that is not zeroed
  if (::ioctl(listener_fd, SECCOMP_IOCTL_NOTIF_RECV, &received) != 0) return os_error("SECCOMP_IOCTL_NOTIF_RECV");
  return Notification{received.id, HostTid{static_cast<pid_t>(received.pid)}, received.data};
}

Result<void> answer_notification(int listener_fd, std::uint64_t id, int error_number) {
  seccomp_notif_resp response{};
  response.id = id;
  response.error = -error_number;
  return send(listener_fd, response);
}

Result<void> pass_notification(int listener_fd, std::uint64_t id) {
  seccomp_notif_resp response{};
  response.id = id;
  response.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
  return send(listener_fd, response);
}

bool is_notification_waiting(int listener_fd, std::uint64_t id) {
  return ::ioctl(listener_fd, SECCOMP_IOCTL_NOTIF_ID_VALID, &id) == 0;
}

Result<void> set_synchronous_wake_up(int listener_fd) {
  if (::ioctl(listener_fd, abi::kSeccompNotifSetFlags, abi::kSeccompSyncWakeUp) != 0) {
    return os_error("SECCOMP_IOCTL_NOTIF_SET_FLAGS");
  }
  return {};
}

}  // namespace deltabox::sys
