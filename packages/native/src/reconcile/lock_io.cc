#include "reconcile/lock_io.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/syscall.h>

#include <algorithm>

namespace deltabox {

using parasite::Call;
using parasite::make_call;

namespace {

struct flock kernel_lock(const FileLock& lock, short type) {
  struct flock wanted {};
  wanted.l_type = type;
  wanted.l_whence = SEEK_SET;
  wanted.l_start = lock.start;
  wanted.l_len = lock.length;
  return wanted;
}

short type_of(const FileLock& lock) { return lock.exclusive ? F_WRLCK : F_RDLCK; }

Result<void> set_process_locks(HeldProcess& held, const std::vector<ProcessLock>& locks, bool take) {
  constexpr std::size_t kBatch = std::min(parasite::kMaxCalls, parasite::kBufferBytes / sizeof(struct flock));
  for (std::size_t start = 0; start < locks.size(); start += kBatch) {
    const std::size_t count = std::min(kBatch, locks.size() - start);
    std::vector<struct flock> areas;
    std::vector<Call> calls;
    for (std::size_t index = 0; index < count; ++index) {
      const ProcessLock& lock = locks[start + index];
      areas.push_back(kernel_lock(lock.lock, take ? type_of(lock.lock) : static_cast<short>(F_UNLCK)));
      const std::uint64_t address =
          held.live->site.mapping.value + parasite::kBufferOffset + index * sizeof(struct flock);
      calls.push_back(make_call(SYS_fcntl, static_cast<std::uint64_t>(lock.fd), F_SETLK, address));
    }
    TRY(held.session.write_buffer(held.live->site, 0, areas.data(), areas.size() * sizeof(struct flock)));
    TRY(held.session.run(held.live->site, calls));
    if (!take) continue;  // a descriptor that was closed since has given its locks up
    for (const Call& call : calls) {
      if (call.result < 0) return os_error_from(static_cast<int>(-call.result), "fcntl(F_SETLK) in a tracee");
    }
  }
  return {};
}

}  // namespace

Result<void> take_description_locks(int fd, const std::vector<FileLock>& locks) {
  Result<void> outcome;
  for (const FileLock& lock : locks) {
    if (lock.kind == LockKind::kFlock) {
      if (::flock(fd, (lock.exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB) != 0 && outcome.ok()) outcome = os_error("flock");
    } else if (lock.kind == LockKind::kOpenFile) {
      struct flock wanted = kernel_lock(lock, type_of(lock));
      if (::fcntl(fd, F_OFD_SETLK, &wanted) != 0 && outcome.ok()) outcome = os_error("fcntl", "F_OFD_SETLK");
    }
  }
  return outcome;
}

Result<void> take_process_locks(HeldProcess& held, const std::vector<ProcessLock>& locks) {
  return set_process_locks(held, locks, true);
}

Result<void> drop_process_locks(HeldProcess& held, const std::vector<ProcessLock>& locks) {
  return set_process_locks(held, locks, false);
}

}  // namespace deltabox
