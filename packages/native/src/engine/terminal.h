// Terminals (ptys) of the sandbox's own devpts whose master ends the engine holds.
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "base/result.h"
#include "base/unique_fd.h"

namespace deltabox {

struct TerminalSize {
  std::uint16_t cols = 80;
  std::uint16_t rows = 24;
};

struct Terminal {
  UniqueFd master;  // non-blocking
  UniqueFd slave;   // for the command; its path /dev/pts/N leads to it inside
};

// INVALID_ARGUMENT for a size that no terminal has.
Result<TerminalSize> check_terminal_size(std::uint32_t cols, std::uint32_t rows);

Result<Terminal> open_terminal(int m1_root, TerminalSize size, uid_t owner);
// The foreground job gets SIGWINCH from the kernel.
Result<void> resize_terminal(int master, TerminalSize size);

}  // namespace deltabox
