// A probe's result on its way from a child process to its parent.
#pragma once

#include <string>

#include "base/result.h"

namespace deltabox::doctor {

// One write of at most PIPE_BUF bytes, so a report arrives whole or not at all; longer texts are cut.
void send_report(int fd, const Result<std::string>& result);
// Blocks until the report or the end of the pipe.
Result<std::string> receive_report(int fd);

}  // namespace deltabox::doctor
