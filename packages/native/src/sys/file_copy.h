// Copies of regular files: shared extents where the file system offers them, else the
// data only (holes stay holes).
#pragma once

#include <cstdint>

#include "base/result.h"

namespace deltabox::sys {

// Fills the empty file to_fd. Returns the bytes that were copied, 0 when the extents are shared.
Result<std::uint64_t> copy_file_data(int from_fd, int to_fd);
// Owner, mode, times and extended attributes. overlayfs' own attributes stay with the inode that they describe.
Result<void> copy_file_attributes(int from_fd, int to_fd);
// Makes to_fd's contents equal to from_fd's, and writes only what differs. Returns the bytes written.
Result<std::uint64_t> correct_file_data(int from_fd, int to_fd);
Result<bool> same_file_data(int first_fd, int second_fd);

}  // namespace deltabox::sys
