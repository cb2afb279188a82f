// Process and memory calls on other tasks, one Result-returning function per call, without policy.
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

#include <cstdint>
#include <span>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "sys/kernel_abi.h"

namespace deltabox::sys {

Result<UniqueFd> pidfd_open(HostTid tid);
Result<UniqueFd> pidfd_get_fd(int pidfd, int remote_fd);
// True when the two descriptors (or resources) are one kernel object (kcmp(2)).
Result<bool> same_object(HostTid first, HostTid second, int type, std::uint64_t first_id, std::uint64_t second_id);
// Negative, zero or positive: one order among all objects of a type, as kcmp(2) has it. Zero: they are one.
Result<int> compare_objects(HostTid first, HostTid second, int type, std::uint64_t first_id, std::uint64_t second_id);
// True when the entry of an epoll with this number (the one after `before` others of the same) is for what a descriptor
// of the candidate leads to.
Result<bool> watches(HostTid epoll_owner, int epoll_fd, int entry_fd, int before, HostTid candidate, int candidate_fd);

// Both move all bytes or fail; short transfers are errors.
Result<void> read_remote(HostTid tid, RemoteAddress address, void* buffer, std::size_t size_bytes);
Result<void> write_remote(HostTid tid, RemoteAddress address, const void* data, std::size_t size_bytes);
// Gathers remote ranges into local buffers, at most IOV_MAX entries per system call.
Result<void> read_remote_ranges(HostTid tid, std::span<const iovec> local, std::span<const iovec> remote);
Result<void> write_remote_ranges(HostTid tid, std::span<const iovec> local, std::span<const iovec> remote);

}  // namespace deltabox::sys
