// Makes the processes and threads that a rollback's target has and the live sandbox no longer has.
//
// Afterwards they stand still with the right pids, parents, sessions, groups and programs, are held like all others,
// and are empty: reconcile fills them.
#pragma once

#include "base/result.h"
#include "deltacr/capture.h"
#include "deltacr/image.h"
#include "reconcile/apply.h"
#include "reconcile/plan.h"
#include "sandbox/init_client.h"

namespace deltabox {

// What had to be ended is gone, and the volumes are the target's. Returns the live state as it is then.
Result<TreeImage> bring_back(ApplyContext& context, InitClient& init, const TreePlan& plan, const TreeImage& live,
                             const TreeImage& target, ApplyOutcome& outcome);

}  // namespace deltabox
