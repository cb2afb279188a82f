// Bytes on their way through a pseudo-terminal: input that was written to the master end and that nobody has read, and
// output of programs that the holder of the master end has not read. The kernel shows how many there are; only reading
// takes them out, so a copy is taken and put back. Nobody runs meanwhile.
#pragma once

#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace deltabox {

// Another descriptor of the slave end, non-blocking; it never becomes a controlling terminal.
Result<UniqueFd> open_slave_of(int master, int flags);

// `slave`: any descriptor of it. Empty where nothing waits. A line that is being typed (canonical mode) is among it.
std::string copy_terminal_input(int master, int slave);
std::string copy_terminal_output(int master);

// What waits becomes these bytes.
Result<void> replace_terminal_input(int master, const std::string& bytes);
Result<void> replace_terminal_output(int master, const std::string& bytes);

}  // namespace deltabox
