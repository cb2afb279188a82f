// The parasite needs a free descriptor number now and then, in processes that may have used theirs up.
#pragma once

#include <sys/resource.h>

#include <utility>

#include "base/ids.h"

namespace deltabox {

// Raises a task's RLIMIT_NOFILE as far as it may be raised, for as long as this lives.
class RaisedDescriptorLimit {
 public:
  RaisedDescriptorLimit() = default;
  explicit RaisedDescriptorLimit(HostTid pid);
  RaisedDescriptorLimit(RaisedDescriptorLimit&& other) noexcept
      : pid_(std::exchange(other.pid_, {})), before_(other.before_) {}
  RaisedDescriptorLimit& operator=(RaisedDescriptorLimit&& other) noexcept {
    std::swap(pid_, other.pid_);
    std::swap(before_, other.before_);
    return *this;
  }
  ~RaisedDescriptorLimit();

 private:
  HostTid pid_{};  // 0: nothing to put back
  rlimit before_{};
};

}  // namespace deltabox
