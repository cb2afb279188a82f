#pragma once

#include <string>
#include <vector>

#include "owned_fd.h"

namespace deltabox::addon {

// Starts the engine and returns our end of its control socket (the engine's end is its descriptor 3). The engine
// detaches itself by forking; the process started here is gone when this returns. Throws SysError.
[[nodiscard]] OwnedFd SpawnEngine(const std::string& engine_path, const std::vector<std::string>& args,
                                  const std::string& log_path);

// Connects to engine.sock in `sandbox_dir`. Throws SysError (ENOENT, ECONNREFUSED, ...).
[[nodiscard]] OwnedFd ConnectEngine(const std::string& sandbox_dir);

// An anonymous file in memory, read position at its start. Throws SysError.
[[nodiscard]] OwnedFd CreateMemfd(const uint8_t* data, size_t size_bytes);

}  // namespace deltabox::addon
