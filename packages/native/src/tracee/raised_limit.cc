#include "tracee/raised_limit.h"

namespace deltabox {

RaisedDescriptorLimit::RaisedDescriptorLimit(HostTid pid) {
  if (::prlimit(pid.value, RLIMIT_NOFILE, nullptr, &before_) != 0 || before_.rlim_cur == before_.rlim_max) return;
  const rlimit raised{before_.rlim_max, before_.rlim_max};
  if (::prlimit(pid.value, RLIMIT_NOFILE, &raised, nullptr) == 0) pid_ = pid;
}

RaisedDescriptorLimit::~RaisedDescriptorLimit() {
  if (pid_.value != 0) ::prlimit(pid_.value, RLIMIT_NOFILE, &before_, nullptr);
}

}  // namespace deltabox
