// Where this process lies in the host's control groups, from the text of /proc/self/mountinfo and /proc/self/cgroup.
// Pure; makes no system call.
#pragma once

#include <optional>
#include <string>

namespace deltabox {

enum class CgroupVersion { kOne, kTwo };

struct CgroupPlace {
  CgroupVersion version = CgroupVersion::kTwo;
  std::string mount_point;
  std::string own_dir;  // of this process; mount_point or below it
};

// The hierarchy to which a controller ("memory", "cpu") is attached. With version two the caller still has to see
// whether the controller is enabled there: a host may have both versions mounted.
std::optional<CgroupPlace> find_cgroup(const std::string& controller, const std::string& mountinfo,
                                       const std::string& self_cgroup);

}  // namespace deltabox
