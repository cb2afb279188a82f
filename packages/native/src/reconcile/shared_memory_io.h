// Puts the contents of shared memory back: in the object that is there, or in one made anew.
#pragma once

#include "base/result.h"
#include "deltacr/image.h"
#include "reconcile/apply.h"
#include "reconcile/plan.h"
#include "reconcile/revived_files.h"

namespace deltabox {

// Before descriptors and mappings: makes objects anew, corrects those that a task has open, and gives `revived` a
// descriptor of each.
Result<void> prepare_shared_memory(ApplyContext& context, const SharedMemoryPlan& plan, const TreeImage& live,
                                   const TreeImage& target, RevivedFiles& revived, ApplyOutcome& outcome);

// Once the mappings are the target's: corrects objects that are only mapped, and seals what was made anew.
Result<void> finish_shared_memory(ApplyContext& context, const SharedMemoryPlan& plan, const TreeImage& live,
                                  const TreeImage& target, RevivedFiles& revived, ApplyOutcome& outcome);

}  // namespace deltabox
