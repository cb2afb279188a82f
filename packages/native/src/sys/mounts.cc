#include "sys/mounts.h"

#include <fcntl.h>

#include <cerrno>

#include "sys/kernel_abi.h"

namespace deltabox::sys {

namespace {

// fsconfig puts the reason of a refusal into the context's log (fsopen(2)); one line of it is worth more than EINVAL.
Error context_error(int fs_fd, const char* operation, const char* key) {
  Error error = os_error(operation, key);
  char log[512];
  const ssize_t length = ::read(fs_fd, log, sizeof log - 1);
  if (length > 0) {
    log[length] = '\0';
    error.subject += std::string(": ") + log;
    while (!error.subject.empty() && error.subject.back() == '\n') error.subject.pop_back();
  }
  return error;
}

}  // namespace

Result<UniqueFd> fs_open(const std::string& type) {
  const int fd = ::fsopen(type.c_str(), FSOPEN_CLOEXEC);
  if (fd < 0) return os_error("fsopen", type);
  return UniqueFd(fd);
}

Result<void> fs_config_string(int fs_fd, const char* key, const std::string& value) {
  if (::fsconfig(fs_fd, FSCONFIG_SET_STRING, key, value.c_str(), 0) != 0) return context_error(fs_fd, "fsconfig", key);
  return {};
}

Result<void> fs_config_flag(int fs_fd, const char* key) {
  if (::fsconfig(fs_fd, FSCONFIG_SET_FLAG, key, nullptr, 0) != 0) return context_error(fs_fd, "fsconfig", key);
  return {};
}

Result<void> fs_config_fd(int fs_fd, const char* key, int fd) {
  if (::fsconfig(fs_fd, FSCONFIG_SET_FD, key, nullptr, fd) != 0) return context_error(fs_fd, "fsconfig", key);
  return {};
}

Result<void> fs_config_create(int fs_fd) {
  if (::fsconfig(fs_fd, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) {
    return context_error(fs_fd, "fsconfig", "create");
  }
  return {};
}

Result<UniqueFd> fs_mount(int fs_fd, unsigned attributes) {
  const int fd = ::fsmount(fs_fd, FSMOUNT_CLOEXEC, attributes);
  if (fd < 0) return context_error(fs_fd, "fsmount", "");
  return UniqueFd(fd);
}

Result<UniqueFd> open_tree_clone(int dir_fd, const std::string& path, bool recursive) {
  unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
  if (recursive) flags |= AT_RECURSIVE;
  if (path.empty()) flags |= AT_EMPTY_PATH;
  const int fd = ::open_tree(dir_fd, path.c_str(), flags);
  if (fd < 0) return os_error("open_tree", path);
  return UniqueFd(fd);
}

Result<void> move_mount_to(int mount_fd, int dir_fd, const std::string& path, unsigned flags) {
  flags |= MOVE_MOUNT_F_EMPTY_PATH;
  if (path.empty()) flags |= MOVE_MOUNT_T_EMPTY_PATH;
  if (::move_mount(mount_fd, "", dir_fd, path.c_str(), flags) != 0) return os_error("move_mount", path);
  return {};
}

Result<void> move_mount_beneath(int mount_fd, int dir_fd, const std::string& path) {
  return move_mount_to(mount_fd, dir_fd, path, abi::kMoveMountBeneath);
}

Result<void> set_mount_attributes(int mount_fd, std::uint64_t set, bool recursive) {
  struct mount_attr attributes {};
  attributes.attr_set = set;
  const unsigned flags = AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0u);
  if (::mount_setattr(mount_fd, "", flags, &attributes, sizeof attributes) != 0) return os_error("mount_setattr");
  return {};
}

Result<void> set_mount_idmap(int mount_fd, int user_namespace_fd) {
  struct mount_attr attributes {};
  attributes.attr_set = MOUNT_ATTR_IDMAP;
  attributes.userns_fd = static_cast<std::uint64_t>(user_namespace_fd);
  if (::mount_setattr(mount_fd, "", AT_EMPTY_PATH, &attributes, sizeof attributes) != 0) {
    return os_error("mount_setattr", "idmap");
  }
  return {};
}

Result<void> make_all_private() {
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return os_error("mount", "private");
  return {};
}

}  // namespace deltabox::sys
