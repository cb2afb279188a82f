// Room in the descriptor tables of tasks: to place descriptors there, some numbers have to be free for a moment.
#pragma once

#include <set>

#include "base/result.h"
#include "deltacr/image.h"

namespace deltabox {

// Refuses, before anything is changed, a switch under processes whose tables are full up to the limit that nobody may
// raise. Pure.
Result<void> check_descriptor_room(const TreeImage& image, const std::set<int>& switched);

}  // namespace deltabox
