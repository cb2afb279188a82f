// files.read and files.write: paths of the sandbox, resolved below its root so that no link leads out.
#pragma once

#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace deltabox {

struct OpenedFile {
  UniqueFd fd;
  std::uint64_t size_bytes = 0;
  std::uint32_t mode = 0;
};

// Regular files only: opening a FIFO or device of hostile code could block or act.
Result<OpenedFile> open_for_reading(int m1_root, const std::string& path);

// Replaces the file in one step: written beside it, then renamed. `mode` 0 keeps an existing file's mode, else 0644.
Result<void> write_whole_file(int m1_root, const std::string& path, int contents_fd, std::uint32_t mode,
                              bool make_parents);

}  // namespace deltabox
