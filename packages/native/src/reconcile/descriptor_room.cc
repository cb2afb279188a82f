#include "reconcile/descriptor_room.h"

#include <sys/resource.h>

#include <algorithm>
#include <string>

#include "reconcile/kinds/correction.h"
#include "sys/sockets.h"

namespace deltabox {

namespace {

constexpr std::size_t kTransferSockets = 2;
constexpr std::size_t kForMappings = 1;

}  // namespace

Result<void> check_descriptor_room(const TreeImage& image, const std::set<int>& switched) {
  for (const ProcessImage& process : image.processes) {
    std::size_t moving = 0;
    std::size_t open = 0;
    const rlim_t limit = process.limits[RLIMIT_NOFILE].rlim_max;
    for (const DescriptorSlot& slot : process.descriptors) {
      const Description& description = image.descriptions[slot.description];
      const bool is_left = (description.kind == DescriptionKind::kFile || description.is_fifo()) &&
                           switched.contains(description.volume);
      const bool is_bound = description.socket && switched.contains(description.socket->node.volume);
      if (is_left || is_bound || watches_any(description.state, switched)) ++moving;
      if (static_cast<rlim_t>(slot.fd) < limit) ++open;
    }
    if (process.mappings) {
      for (const Mapping& mapping : *process.mappings) moving += mapping.moves_with(switched, {}) ? 1 : 0;
    }
    if (moving == 0) continue;
    const std::size_t wanted = kTransferSockets + std::min(moving, sys::kMaxFdsPerMessage) + kForMappings;
    if (open + wanted <= limit) continue;
    Error error = make_error(
        Code::kUnsupported,
        "process " + std::to_string(process.pid.value) + " has no room for its descriptors: " + std::to_string(open) +
            " are open, and its hard limit is " + std::to_string(limit),
        "Let it close " + std::to_string(open + wanted - limit) + " descriptors, or raise `limits.openFiles`.");
    error.details.push_back({process.pid.value, "descriptors", "its table is full"});
    return error;
  }
  return {};
}

}  // namespace deltabox
