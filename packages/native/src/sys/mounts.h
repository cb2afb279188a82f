// Mount calls of the "new" mount API, one Result-returning function per call, without policy.
#pragma once

#include <sys/mount.h>

#include <cstdint>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace deltabox::sys {

Result<UniqueFd> fs_open(const std::string& type);
Result<void> fs_config_string(int fs_fd, const char* key, const std::string& value);
Result<void> fs_config_flag(int fs_fd, const char* key);
// overlayfs takes lowerdir+, upperdir and workdir by descriptor since 6.13.
Result<void> fs_config_fd(int fs_fd, const char* key, int fd);
Result<void> fs_config_create(int fs_fd);
// A detached mount, owned by its descriptor until it is moved to a place.
Result<UniqueFd> fs_mount(int fs_fd, unsigned attributes);
Result<UniqueFd> open_tree_clone(int dir_fd, const std::string& path, bool recursive);
// Attaches the detached mount mount_fd at dir_fd/path ("" with dir_fd alone means dir_fd itself).
Result<void> move_mount_to(int mount_fd, int dir_fd, const std::string& path, unsigned flags = 0);
// Puts mount_fd beneath the top mount at target_fd (6.5).
Result<void> move_mount_beneath(int mount_fd, int dir_fd, const std::string& path);
Result<void> set_mount_attributes(int mount_fd, std::uint64_t set, bool recursive);
Result<void> set_mount_idmap(int mount_fd, int user_namespace_fd);
Result<void> make_all_private();

}  // namespace deltabox::sys
