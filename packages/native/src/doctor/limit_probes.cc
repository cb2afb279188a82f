// Probes of what bounds a sandbox: optional, since a sandbox without limits needs none of it.
#include <sys/wait.h>
#include <unistd.h>

#include "doctor/probe.h"
#include "sandbox/cgroup.h"

namespace deltabox::doctor {

namespace {

Result<std::string> try_limits(const CgroupLimits& limits) {
  { const Cgroups groups = TRY(Cgroups::create(limits, "deltabox-doctor-" + std::to_string(::getpid()))); }
  // The keeper removes the group and ends.
  ::wait(nullptr);
  return std::string("a control group was made and given a limit");
}

Result<std::string> probe_memory_limit(const Context&) { return try_limits({64u << 20, 0}); }

Result<std::string> probe_cpu_limit(const Context&) { return try_limits({0, 0.5}); }

}  // namespace

std::vector<Probe> limit_probes() {
  return {
      {"memory-limit", Topic::kLimits, false, nullptr, probe_memory_limit},
      {"cpu-limit", Topic::kLimits, false, nullptr, probe_cpu_limit},
  };
}

}  // namespace deltabox::doctor
