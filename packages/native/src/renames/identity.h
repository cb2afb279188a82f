// Whose call it is: the ids and capabilities by which the kernel judges a task's file system calls.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <vector>

#include "base/ids.h"
#include "base/result.h"

namespace deltabox::renames {

struct Identity {
  uid_t uid = 0;  // as of setfsuid(2)
  gid_t gid = 0;
  std::vector<gid_t> groups;
  std::uint64_t capabilities = 0;  // effective

  bool operator==(const Identity&) const = default;
};

// Ids as the calling process's user namespace names them.
Result<Identity> identity_of(int proc_fd, HostTid tid);

// Gives the calling process the identity for file system calls, or takes it back: `own` is its real one. The process
// keeps its permitted capabilities, which judge nothing.
Result<void> assume(const Identity& wanted, const Identity& own);

// For the length of a scope. Where the identity can't be taken back, the process ends: it must not go on as another.
class AssumedIdentity {
 public:
  static Result<AssumedIdentity> assume(const Identity& wanted, const Identity& own);
  AssumedIdentity(AssumedIdentity&& other) noexcept;
  AssumedIdentity& operator=(AssumedIdentity&&) = delete;
  AssumedIdentity(const AssumedIdentity&) = delete;
  AssumedIdentity& operator=(const AssumedIdentity&) = delete;
  ~AssumedIdentity();

 private:
  AssumedIdentity(const Identity& wanted, const Identity& own) : wanted_(&wanted), own_(&own) {}
  const Identity* wanted_;
  const Identity* own_;
};

}  // namespace deltabox::renames
