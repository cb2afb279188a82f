// File system calls, one Result-returning function per call, without policy.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>

#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace deltabox::sys {

// All of them open close-on-exec.
Result<UniqueFd> open_at(int dir_fd, const std::string& path, int flags, mode_t mode = 0);
// openat2 confined below root_fd as if it were "/": links can't lead out, magic links are refused (openat2(2), 5.6).
Result<UniqueFd> open_in_root(int root_fd, const std::string& path, int flags, mode_t mode = 0);
// Below dir_fd, through real directories only.
Result<UniqueFd> open_beneath(int dir_fd, const std::string& path, int flags);
Result<void> make_dir_at(int dir_fd, const std::string& path, mode_t mode);
Result<struct stat> stat_fd(int fd);
Result<struct statx> statx_at(int dir_fd, const std::string& path, int flags, unsigned mask);
Result<std::string> read_link_at(int dir_fd, const std::string& path);
// Reads to the end; TOO_LARGE beyond max_bytes.
Result<std::string> read_all(int fd, std::size_t max_bytes);
Result<std::string> read_file_at(int dir_fd, const std::string& path, std::size_t max_bytes);
Result<void> write_all(int fd, const void* data, std::size_t size_bytes);
Result<void> write_file_at(int dir_fd, const std::string& path, const std::string& data);
// Names in a directory without "." and "..".
Result<std::vector<std::string>> list_dir(int dir_fd);
// Numeric names only, as in /proc/PID/fd; cheaper than list_dir for the pause.
Result<std::vector<int>> list_numeric_dir(int dir_fd);
bool is_dir_empty(int dir_fd);
Result<std::pair<UniqueFd, UniqueFd>> make_pipe(int flags);
Result<UniqueFd> duplicate(int fd);

}  // namespace deltabox::sys
