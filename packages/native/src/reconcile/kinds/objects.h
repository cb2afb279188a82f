// Makes and corrects objects that only descriptors lead to.
#pragma once

#include "base/result.h"
#include "base/unique_fd.h"
#include "deltacr/kinds/state.h"

namespace deltabox {

// A new object, close-on-exec; its status flags are for the caller to set.
Result<UniqueFd> make_object(const ObjectState& wanted);
// `duplicate`: of a description of the same kind; the plan has found Correction::kInPlace.
Result<void> correct_object(int duplicate, const ObjectState& wanted);

}  // namespace deltabox
