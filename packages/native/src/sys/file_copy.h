// Copies of regular files: shared extents where the file system offers them, else the
// data only (holes stay holes).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <vector>

#include "base/result.h"

namespace deltabox::sys {

// Fills the empty file to_fd. Returns the bytes that were copied, 0 when the extents are shared.
Result<std::uint64_t> copy_file_data(int from_fd, int to_fd);
// Owner, mode, times and extended attributes. overlayfs' own attributes stay with the inode that they describe.
Result<void> copy_file_attributes(int from_fd, int to_fd);
// In what a file differs from the contents that it is to have.
struct FileDifferences {
  struct Range {
    off_t offset = 0;
    off_t size_bytes = 0;
    bool is_hole = false;  // what it is to have there
  };
  off_t size_bytes = 0;  // of the whole file, as it is to be
  std::vector<Range> ranges;
};
Result<FileDifferences> find_differences(int from_fd, int to_fd);
// Neither file changed since. Returns the bytes written.
Result<std::uint64_t> apply_differences(const FileDifferences& differences, int from_fd, int to_fd);
// Makes to_fd's contents equal to from_fd's, and writes only what differs. Returns the bytes written.
Result<std::uint64_t> correct_file_data(int from_fd, int to_fd);
Result<bool> same_file_data(int first_fd, int second_fd);

}  // namespace deltabox::sys
