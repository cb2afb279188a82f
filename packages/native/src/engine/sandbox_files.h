// files.read and files.write: paths of the sandbox, resolved below its root so that no link leads out.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "base/unique_fd.h"
#include "engine/inside_paths.h"

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

// The steps of it, for a file that comes in pieces (staged_writes.h).
inline constexpr std::string_view kTemporaryPrefix = ".deltabox-write-";
std::string temporary_name();
Result<void> check_replaceable(const NamedEntry& entry);
Result<void> append_contents(int contents_fd, int file_fd);
Result<void> put_in_place(const NamedEntry& entry, const std::string& temporary, int file_fd, std::uint32_t mode);

}  // namespace deltabox
