#include "sys/processes.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <string>

namespace deltabox::sys {

namespace {
std::string name_of(HostTid tid) { return "tid " + std::to_string(tid.value); }
}  // namespace

Result<UniqueFd> pidfd_open(HostTid tid) {
  const long fd = ::syscall(SYS_pidfd_open, tid.value, 0);
  if (fd < 0) return os_error("pidfd_open", name_of(tid));
  return UniqueFd(static_cast<int>(fd));
}

Result<UniqueFd> pidfd_get_fd(int pidfd, int remote_fd) {
  const long fd = ::syscall(SYS_pidfd_getfd, pidfd, remote_fd, 0);
  if (fd < 0) return os_error("pidfd_getfd", "fd " + std::to_string(remote_fd));
  return UniqueFd(static_cast<int>(fd));
}

Result<int> compare_objects(HostTid first, HostTid second, int type, std::uint64_t first_id, std::uint64_t second_id) {
  const long order = ::syscall(SYS_kcmp, first.value, second.value, type, first_id, second_id);
  switch (order) {
    case 0:
      return 0;
    case 1:
      return -1;
    case 2:
      return 1;
    default:
      // The manual knows of kernels that have no order to tell (3); there are none with what else is needed here.
      return order < 0 ? os_error("kcmp", name_of(first)) : make_error(Code::kUnsupportedKernel, "kcmp has no order");
  }
}

Result<bool> same_object(HostTid first, HostTid second, int type, std::uint64_t first_id, std::uint64_t second_id) {
  return TRY(compare_objects(first, second, type, first_id, second_id)) == 0;
}

Result<bool> watches(HostTid epoll_owner, int epoll_fd, int entry_fd, int before, HostTid candidate, int candidate_fd) {
  const abi::KcmpEpollSlot slot{static_cast<std::uint32_t>(epoll_fd), static_cast<std::uint32_t>(entry_fd),
                                static_cast<std::uint32_t>(before)};
  return same_object(candidate, epoll_owner, abi::kKcmpEpollTfd, static_cast<std::uint64_t>(candidate_fd),
                     reinterpret_cast<std::uint64_t>(&slot));
}

namespace {

using VectorCall = ssize_t (*)(pid_t, const iovec*, unsigned long, const iovec*, unsigned long, unsigned long);

// Both sides advance together, IOV_MAX entries at a time. The remote entries are one page run each and the kernel stops
// at the first fault, so a short count means that something beyond it can't be reached.
Result<void> move_ranges(VectorCall call, const char* name, HostTid tid, std::span<const iovec> local,
                         std::span<const iovec> remote) {
  std::size_t local_index = 0;
  std::size_t remote_index = 0;
  while (remote_index < remote.size()) {
    const std::size_t batch = std::min<std::size_t>(remote.size() - remote_index, IOV_MAX);
    std::size_t expected = 0;
    for (std::size_t index = 0; index < batch; ++index) expected += remote[remote_index + index].iov_len;
    // The local side must cover the same bytes; callers build it entry by entry or as one buffer.
    std::size_t covered = 0;
    std::size_t local_batch = 0;
    while (covered < expected && local_index + local_batch < local.size()) {
      covered += local[local_index + local_batch].iov_len;
      ++local_batch;
    }
    if (covered != expected || local_batch > IOV_MAX) return make_error(Code::kInternal, "iovec sides do not match");
    const ssize_t count = call(tid.value, &local[local_index], local_batch, &remote[remote_index], batch, 0);
    if (count < 0) return os_error(name, name_of(tid));
    if (static_cast<std::size_t>(count) != expected) return os_error_from(EFAULT, name, name_of(tid));
    remote_index += batch;
    local_index += local_batch;
  }
  return {};
}

}  // namespace

Result<void> read_remote_ranges(HostTid tid, std::span<const iovec> local, std::span<const iovec> remote) {
  return move_ranges(&::process_vm_readv, "process_vm_readv", tid, local, remote);
}

Result<void> write_remote_ranges(HostTid tid, std::span<const iovec> local, std::span<const iovec> remote) {
  return move_ranges(&::process_vm_writev, "process_vm_writev", tid, local, remote);
}

Result<void> read_remote(HostTid tid, RemoteAddress address, void* buffer, std::size_t size_bytes) {
  const iovec local{buffer, size_bytes};
  const iovec remote{reinterpret_cast<void*>(address.value), size_bytes};
  return read_remote_ranges(tid, {&local, 1}, {&remote, 1});
}

Result<void> write_remote(HostTid tid, RemoteAddress address, const void* data, std::size_t size_bytes) {
  const iovec local{const_cast<void*>(data), size_bytes};
  const iovec remote{reinterpret_cast<void*>(address.value), size_bytes};
  return write_remote_ranges(tid, {&local, 1}, {&remote, 1});
}

}  // namespace deltabox::sys
