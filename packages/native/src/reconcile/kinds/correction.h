// How an object that is still there becomes what an image says. Pure.
#pragma once

#include <set>

#include "deltacr/kinds/state.h"

namespace deltabox {

enum class Correction {
  kNone,     // it is as it was
  kInPlace,  // correct_object
  kAnew,     // make_object, and into every slot
};
// Two objects of one kind.
Correction correction_of(const ObjectState& live, const ObjectState& wanted);

// An inotify that watches anything on these volumes.
bool watches_any(const ObjectState& state, const std::set<int>& volumes);

}  // namespace deltabox
