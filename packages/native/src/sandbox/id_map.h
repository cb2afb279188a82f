// Which ids the sandbox has. Started by root, a sandbox gets a range of 65,536 ids that belong to nobody on the host,
// so that neither engine nor tasks own anything of root's; started by an ordinary user it gets that user's one id, as
// root inside.
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "base/result.h"

namespace deltabox {

struct IdMap {
  bool ranged = false;            // true: a range and idmapped mounts; false: one id
  std::uint32_t outside_uid = 0;  // host id of uid 0 inside
  std::uint32_t outside_gid = 0;
  std::uint32_t count = 1;
};

// The first id of the range. It lies above what useradd and subuid hand out (60,000 and 100,000 + n × 65,536 up to
// 600,100,000 by the defaults of login.defs).
inline constexpr std::uint32_t kRangeFirst = 2'000'000'000;
inline constexpr std::uint32_t kRangeCount = 65'536;

Result<IdMap> choose_id_map();
// Writes uid_map and gid_map of `pid` for its new user namespace. proc_fd: a descriptor of the host's /proc.
Result<void> write_id_maps(int proc_fd, pid_t pid, const IdMap& map);
// The identity map of a child namespace over the same ids: the tasks' namespace below the engine's.
Result<void> write_identity_maps(int proc_fd, pid_t pid, const IdMap& map);

}  // namespace deltabox
