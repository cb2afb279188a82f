// The one directory in which probes leave files.
#pragma once

#include <string>

#include "base/result.h"

namespace deltabox::doctor {

// A new directory in the state directory, readable by its owner alone.
Result<std::string> make_scratch(const std::string& state_dir);
// Removes it with all that probes left there.
void remove_scratch(const std::string& path);

}  // namespace deltabox::doctor
