// Where the engine's companions lie: beside its own executable.
#pragma once

#include <string>

#include "base/result.h"

namespace deltabox {

Result<std::string> init_binary_path();

}  // namespace deltabox
