// The descriptors of all processes, put back as planned (plan.h).
#pragma once

#include <set>

#include "base/result.h"
#include "deltacr/image.h"
#include "reconcile/apply.h"
#include "reconcile/revived_files.h"

namespace deltabox {

// `switched`: volumes whose overlay changed; `renewed`: memory that is made anew.
Result<void> apply_descriptors(ApplyContext& context, const TreeImage& live, const TreeImage& target,
                               const std::set<int>& switched, const std::set<SharedObjectId>& renewed,
                               RevivedFiles& revived, ApplyOutcome& outcome);

}  // namespace deltabox
