// What must be done to turn the live state into a target state. Pure: images in, operations out; tests build images by
// hand. The operations are dumb, the order in which they are applied is apply.h's.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "deltacr/image.h"
#include "deltacr/memory.h"

namespace deltabox {

// --- The tree ---

struct TreePlan {
  std::vector<Notice> dead;                // processes and threads of the target that are gone
  std::vector<Incarnation> end_processes;  // born since
  struct ThreadToEnd {
    Incarnation process;
    HostTid tid;
  };
  std::vector<ThreadToEnd> end_threads;
};
TreePlan plan_tree(const TreeImage& live, const TreeImage& target);

// --- Mappings of one address space ---

struct UnmapRange {
  AddressRange range;
};
struct ProtectRange {
  AddressRange range;
  int protection = 0;
};
// A part of a target mapping that has to be mapped anew.
struct MapRange {
  AddressRange range;
  Mapping mapping;
};
struct MappingPlan {
  std::vector<UnmapRange> unmap;
  std::vector<MapRange> map;
  std::vector<ProtectRange> protect;
  std::vector<Mapping> unrestorable;  // shared memory that is gone
  bool empty() const { return unmap.empty() && map.empty() && protect.empty(); }
};
// `excluded`: the parasite's range, in no image. `switched`: indices of the volumes whose overlay changes, where shared
// mappings are made anew; so are those of the memory `renewed`.
MappingPlan plan_mappings(const MappingList& live, const MappingList& target, AddressRange excluded,
                          const std::set<int>& switched, const std::set<SharedObjectId>& renewed = {});

// --- Shared memory of the whole tree ---

// What is in neither set is corrected through the target's mappings.
struct SharedMemoryPlan {
  std::set<SharedObjectId> renew;  // gone, or not to be turned into what it was; made anew for all that have it
  std::set<SharedObjectId> through_descriptor;
};
SharedMemoryPlan plan_shared_memory(const TreeImage& live, const TreeImage& target, const std::set<int>& switched);

// --- Pages of one address space ---

struct PagePlan {
  std::vector<PageWrite> writes;    // in order of addresses
  std::vector<AddressRange> drops;  // MADV_DONTNEED: back to zeros or the file's contents
};
PagePlan plan_pages(const PageMap& live, const PageMap& target, const MappingList& target_mappings,
                    const std::vector<MapRange>& remapped);

// --- Descriptors of the whole tree ---

struct SlotInstall {
  Incarnation process;
  int fd = -1;
  bool close_on_exec = false;
  std::uint32_t description = 0;  // of the target
};
struct SlotClose {
  Incarnation process;
  int fd = -1;
};
struct SlotFlag {
  Incarnation process;
  int fd = -1;
  bool close_on_exec = false;
};
// A description that stays, whose offset or flags are set through one of its slots.
struct DescriptionAdjust {
  Incarnation process;
  int fd = -1;
  std::uint32_t description = 0;  // of the target
};
// An entry of an epoll, set through a process that holds the epoll. Slots are those of the target, and filled by then.
struct EpollChange {
  Incarnation process;
  int epoll_fd = -1;
  EpollEntry entry;
  bool add = false;  // else it is there, with other events or data, or is looked at anew
  // Another slot that leads to what is watched, where the process has nothing or something else under the entry's
  // number.
  std::optional<std::pair<Incarnation, int>> from;
};
struct DescriptorPlan {
  std::vector<std::uint32_t> make;  // descriptions of the target to open anew
  std::vector<SlotInstall> install;
  std::vector<SlotClose> close;
  std::vector<SlotFlag> flags;
  std::vector<DescriptionAdjust> adjust;
  std::vector<EpollChange> epolls;
  std::vector<Notice> unrestorable;
};
// `switched`: indices of the volumes whose overlay changes, where every file is opened anew. `live` has the
// incarnations of the target (the others are ended before).
DescriptorPlan plan_descriptors(const TreeImage& live, const TreeImage& target, const std::set<int>& switched,
                                const std::set<SharedObjectId>& renewed = {});

}  // namespace deltabox
