// Whether a process is still able to become what it was: rights that were dropped and priorities that were lowered are
// not given back. Pure.
#pragma once

#include "deltacr/image.h"

namespace deltabox {

// The living process itself, with threads made from its main one where they are gone, and with its program executed
// again where that has changed.
bool can_be_what_it_was(const ProcessImage& live, const ProcessImage& target);
// A child that the living process makes.
bool can_be_child_of(const ProcessImage& live_parent, const ProcessImage& target);

}  // namespace deltabox
