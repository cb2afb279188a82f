// What a rollback puts back of the terminals whose master ends the engine holds: their modes and their foreground job.
//
// A shell that waits at its prompt at the checkpoint would otherwise find itself in the background of a job that the
// rollback ended (its next read fails with EIO), on a terminal in the modes of that job. The window's size is the
// client's, and bytes on their way are not captured.
#pragma once

#include <map>
#include <vector>

#include "base/result.h"
#include "deltacr/capture.h"
#include "deltacr/image.h"

namespace deltabox {

struct HeldTerminal {
  int master = -1;
  InsidePid leader;  // of the session whose controlling terminal it is
};
using TerminalTable = std::map<std::uint64_t, HeldTerminal>;  // by the id of the command that got it

// Inside a pause, after the capture.
void capture_terminals(const TerminalTable& terminals, TreeImage& image);
// Inside a pause, once what the target does not know has ended and before the target's pages are written.
void restore_terminals(const TerminalTable& terminals, const TreeImage& live, const TreeImage& target,
                       TreeCapture& capture, std::vector<Notice>& not_restored);

}  // namespace deltabox
