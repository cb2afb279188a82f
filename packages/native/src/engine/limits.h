// What the tasks of a sandbox may use at most.
#pragma once

#include <string>

#include "base/result.h"
#include "deltabox.pb.h"
#include "sandbox/cgroup.h"
#include "sandbox/namespaces.h"

namespace deltabox {

class SandboxLimits {
 public:
  // Makes the control groups that the limits need; while the engine still has the host's tree. A limit that can't be
  // kept here is refused.
  static Result<SandboxLimits> create(const v1::Limits& limits, const std::string& sandbox_id);

  // What namespaces and init have to know of them. The configuration points into this object.
  void configure(NamespaceConfig& config) const;
  // 0: no limit.
  std::uint64_t disk_bytes() const { return limits_.disk_bytes(); }
  // Of one command; 0: no limit.
  std::uint64_t output_bytes() const { return limits_.output_bytes(); }
  void fill_info(v1::SandboxInfo& info) const;

 private:
  v1::Limits limits_;
  Cgroups cgroups_;
};

}  // namespace deltabox
