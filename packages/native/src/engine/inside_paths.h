// Paths of the sandbox, as clients name them: absolute, any bytes but NUL, resolved below its root so that no link
// leads out.
#pragma once

#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace deltabox {

// How a path is shown in messages: bounded, with bytes that are no printable ASCII as \xNN.
std::string printable(const std::string& path);

Result<void> check_path(const std::string& path);

// Opens the directory `dir` ("" is the root). With `make`, what is missing of it is made.
Result<UniqueFd> open_directory_inside(int m1_root, const std::string& dir, bool make);

// A name in its directory, for calls that take the two.
struct NamedEntry {
  UniqueFd parent;  // O_PATH
  std::string name;
};
// Slashes at the end are left out; a path that names no entry ("/", "a/..") is refused.
Result<NamedEntry> open_parent_inside(int m1_root, const std::string& path, bool make_parents);

}  // namespace deltabox
