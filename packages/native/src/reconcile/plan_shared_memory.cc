#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>

#include "deltacr/shared_memory.h"
#include "reconcile/plan.h"

namespace deltabox {

namespace {

// A process of the target lacks a mapping of the object, which needs a descriptor of it.
bool has_to_be_mapped(const TreeImage& live, const TreeImage& target, SharedObjectId id,
                      const std::set<int>& switched) {
  return std::any_of(target.processes.begin(), target.processes.end(), [&](const ProcessImage& wanted) {
    const bool maps = std::any_of(wanted.mappings->begin(), wanted.mappings->end(),
                                  [&](const Mapping& mapping) { return mapping.shared_object == id; });
    const ProcessImage* present = live.find(wanted.incarnation);
    if (!maps || present == nullptr) return maps;
    if (present->mappings == wanted.mappings) return false;
    const MappingPlan plan = plan_mappings(*present->mappings, *wanted.mappings, AddressRange{}, switched, {});
    return std::any_of(plan.map.begin(), plan.map.end(),
                       [&](const MapRange& part) { return part.mapping.shared_object == id; });
  });
}

// What has ended by now, since the target does not have it, has taken its descriptors with it.
bool is_still_open(const TreeImage& live, const TreeImage& target, SharedObjectId id) {
  return std::any_of(live.processes.begin(), live.processes.end(), [&](const ProcessImage& process) {
    return target.find(process.incarnation) != nullptr &&
           std::any_of(process.descriptors.begin(), process.descriptors.end(), [&](const DescriptorSlot& slot) {
             return live.descriptions[slot.description].shared_object == id;
           });
  });
}

bool can_be_written(const SharedMemory& present, const SharedMemory& wanted, const TreeImage& target) {
  const std::vector<SharedPiece> pieces = cover_object(target, wanted.id, PROT_WRITE);
  bool covered = true;
  PageMap::for_each_difference(
      present.pages, wanted.pages, [&](PageNumber page, std::optional<PageId>, std::optional<PageId>) {
        const std::uint64_t offset = page << kPageShift;
        covered = covered && std::any_of(pieces.begin(), pieces.end(), [&](const SharedPiece& piece) {
                    return offset >= piece.offset && offset - piece.offset < piece.range.size_bytes();
                  });
      });
  return covered;
}

bool same_contents(const SharedMemory& present, const SharedMemory& wanted) {
  bool same = present.size_bytes == wanted.size_bytes;
  PageMap::for_each_difference(present.pages, wanted.pages,
                               [&](PageNumber, std::optional<PageId>, std::optional<PageId>) { same = false; });
  return same;
}

}  // namespace

SharedMemoryPlan plan_shared_memory(const TreeImage& live, const TreeImage& target, const std::set<int>& switched) {
  SharedMemoryPlan plan;
  for (const SharedMemory& wanted : target.shared_memory) {
    if (wanted.system_v) continue;  // the key and the id are the object, and only the kernel could give them again
    const SharedMemory* present = live.find_shared(wanted.id);
    // Seals are never taken back. One keeps descriptors from writing what older mappings may.
    const bool is_sealed = (wanted.seals & F_SEAL_FUTURE_WRITE) != 0;
    if (present == nullptr || present->seals != wanted.seals || (is_sealed && !same_contents(*present, wanted))) {
      plan.renew.insert(wanted.id);
    } else if (is_still_open(live, target, wanted.id)) {
      // A sealed one is the same by its seals; opening it for writing would be refused.
      plan.through_descriptor.insert(wanted.id);
    } else if (wanted.has_descriptor || has_to_be_mapped(live, target, wanted.id, switched) ||
               !can_be_written(*present, wanted, target)) {
      plan.renew.insert(wanted.id);
    }
  }
  return plan;
}

}  // namespace deltabox
