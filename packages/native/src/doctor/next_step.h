// What to change when a probe fails.
#pragma once

#include <string>

#include "base/result.h"
#include "doctor/probe.h"

namespace deltabox::doctor {

// Sentences for the user. The failure decides which; they name this machine's paths where an option needs one.
std::string next_step(const Probe& probe, const Error& error, const Context& context);

}  // namespace deltabox::doctor
