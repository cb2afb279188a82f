// Makes sockets anew, with both ends of a connection, and corrects those that are still there.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "deltacr/image.h"
#include "reconcile/apply.h"
#include "reconcile/plan.h"

namespace deltabox {

// The sockets among plan.make, by description, into `made`. What they are to replace has been closed, so that names and
// ports are free. One that can't be made is reported and missing.
Result<void> make_sockets(ApplyContext& context, const DescriptorPlan& plan, const TreeImage& target,
                          std::map<std::uint32_t, UniqueFd>& made, ApplyOutcome& outcome);

// Once every slot is the target's: options and what waits to be read of the sockets that stayed.
Result<void> correct_sockets(ApplyContext& context, const DescriptorPlan& plan, const TreeImage& live,
                             const TreeImage& target, ApplyOutcome& outcome);

// A listener that was bound to a path, bound to it again (bind_again.h) for a process of those that have it.
Result<UniqueFd> make_listener(HeldProcess& held, const Description& wanted, int m1_root);

}  // namespace deltabox
