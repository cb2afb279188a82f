// The sandbox's real pid 1, started for a probe.
#pragma once

#include "base/result.h"
#include "base/unique_fd.h"
#include "doctor/actors.h"
#include "doctor/probe.h"
#include "sandbox/init_client.h"

namespace deltabox::doctor {

// A proc mount that shows the pid namespace of `member`. Only a task inside can make one, so a grandchild goes there.
Result<UniqueFd> mount_proc_of(const Context& context, HostTid member);

class SandboxInit {
 public:
  // Called as_engine(), in the host's mount namespace: it makes a private one and puts init's /proc over /proc there.
  static Result<SandboxInit> start(const Context& context, int binary_fd);
  HostTid tid() const { return task_.tid(); }
  // What pid 1 does before its first command: host name, loopback, limits, seccomp filter.
  Result<UniqueFd> set_up() { return client_.set_up({}); }

 private:
  SandboxInit(ProbeTask task, InitClient client) : task_(std::move(task)), client_(std::move(client)) {}
  ProbeTask task_;
  InitClient client_;
};

}  // namespace deltabox::doctor
