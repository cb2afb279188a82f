// `deltabox-engine serve`: becomes a sandbox's engine. Descriptor 3 is the creator's socket.
#pragma once

namespace deltabox {

// The exit status of the process.
int serve();

}  // namespace deltabox
