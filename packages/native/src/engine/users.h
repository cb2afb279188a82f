// Users of the sandbox, as its own /etc/passwd and /etc/group name them.
#pragma once

#include <string>

#include "base/result.h"
#include "sandbox/init_client.h"

namespace deltabox {

struct SandboxUser {
  std::string name;
  std::string home;
  SpawnUser ids;
};

// By name or by number. NOT_FOUND without an entry; UNSUPPORTED where the sandbox has no id but root's.
Result<SandboxUser> find_user(int m1_root, int proc_fd, const std::string& name_or_uid);

}  // namespace deltabox
