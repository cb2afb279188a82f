// Directories of the sandbox: listing, making, renaming and removing, each bounded in what one call takes.
#pragma once

#include <string>

#include "base/result.h"
#include "base/unique_fd.h"
#include "deltabox.pb.h"

namespace deltabox {

// Of the path itself: a link is not followed.
Result<v1::FileInfo> file_info(int m1_root, const std::string& path);
// In the order of the names' bytes, from the first name after `after` on, as much as fits into one frame.
Result<v1::DirEntries> list_directory(int m1_root, const std::string& path, const std::string& after);
// False when it was there already.
Result<bool> make_directory(int m1_root, const std::string& path, std::uint32_t mode);
Result<void> rename_entry(int m1_root, const std::string& from, const std::string& to);
// A directory with all that is in it. False: there is more to remove; the caller asks again.
Result<bool> remove_entry(int m1_root, const std::string& path);

// Everything below a directory of the engine's own, whatever its depth, without a pause.
Result<void> remove_contents(UniqueFd directory);

}  // namespace deltabox
