// Whether this machine can run sandboxes, found out by doing each thing that one needs.
#pragma once

#include <string>

namespace deltabox {

// Prints one JSON object per probe and line on standard output: {"name","ok","required","detail","next"}. Returns 1
// when a required probe failed, else 0. The calling process must have no children of its own: it becomes the reaper of
// what the probes leave.
int run_doctor(const std::string& state_dir, const std::string& init_binary);

}  // namespace deltabox
