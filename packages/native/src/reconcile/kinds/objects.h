// Makes and corrects objects that only descriptors lead to.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "deltacr/kinds/state.h"

namespace deltabox {

struct ObjectPlace {
  int m1_root = -1;
  int self_fd_dir = -1;
};
// A new object, close-on-exec; its status flags are for the caller to set. Adds to `lost` what of its state could not
// be had again.
Result<UniqueFd> make_object(const ObjectState& wanted, const ObjectPlace& place, std::vector<std::string>& lost);
// `duplicate`: of a description of the same kind; the plan has found Correction::kInPlace.
Result<void> correct_object(int duplicate, const ObjectState& wanted);

}  // namespace deltabox
