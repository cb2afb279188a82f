// Makes sockets anew, with both ends of a connection, and corrects those that are still there.
#pragma once

#include <cstdint>
#include <map>
#include <set>
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

// A listener or datagram socket that was bound to a path, bound to it again (bind_again.h) for a process of those that
// have it.
Result<UniqueFd> make_bound_socket(HeldProcess& held, const Description& wanted, int m1_root);

// Once every slot is the image's, for its datagram sockets of unix: connects those that are new, send to a new one, or
// send elsewhere by now, and fills the new ones that have a path with what waited in them.
struct NewDatagrams {
  std::set<std::uint32_t> made;
  std::set<std::uint32_t> redirected;
};
void settle_datagrams(TreeCapture& capture, const TreeImage& image, const NewDatagrams& news, int m1_root,
                      std::vector<Notice>& failures);

}  // namespace deltabox
