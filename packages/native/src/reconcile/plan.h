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

// A process to be made.
struct Birth {
  enum class Role {
    kProcess,  // in the place of one of the target's that is gone
    kZombie,   // ends when all are made, and is not collected
    kStandIn,  // gives a session or group its number, and ends when all are made
  };
  Role role = Role::kProcess;
  Incarnation process = 0;  // of kProcess
  InsidePid pid;
  InsidePid maker;      // its parent (1: init), or with `orphan` a member of its session
  bool orphan = false;  // made by a child of the maker that ends at once
  bool new_session = false;
  std::int32_t process_group = 0;
  int exit_status = 0;  // of kZombie, as of wait4(2)
  bool operator==(const Birth&) const = default;
};

struct TreePlan {
  std::vector<Incarnation> end_processes;  // born since, or to be made anew
  std::vector<ZombieImage> collect;        // whose parents wait(2) for them, for the same reasons
  struct ThreadToEnd {
    Incarnation process;
    HostTid tid;
  };
  std::vector<ThreadToEnd> end_threads;
  std::vector<Birth> births;        // makers before those they make
  std::vector<Incarnation> reload;  // alive, and to be given their earlier program
  struct ThreadToMake {
    Incarnation process;
    InsidePid tid;
  };
  std::vector<ThreadToMake> make_threads;  // of processes that live on
  std::vector<Notice> dead;                // what nobody can make
  bool makes_anything() const { return !births.empty() || !reload.empty() || !make_threads.empty(); }
};
TreePlan plan_tree(const TreeImage& live, const TreeImage& target);

// Which of the target's processes have to be made: those that are gone, and for each of them what hangs on it (its
// children, which have another parent now; members of its session or group, which keep its number taken), and those
// that no call brings back to what they were (another session, rights dropped since), with parents that could not make
// them as they were.
std::set<Incarnation> processes_to_make(const TreeImage& live, const TreeImage& target);
// Whether a zombie is there, in both, and need not be made. `make`: the processes that are.
bool zombie_stays(const TreeImage& live, const TreeImage& target, const std::set<Incarnation>& make,
                  const ZombieImage& zombie);
// In what order and by whom. Those that nobody can make are added to `dead`.
std::vector<Birth> plan_births(const TreeImage& live, const TreeImage& target, const std::set<Incarnation>& make,
                               std::vector<Notice>& dead);

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
// A slot that gets the description which another live slot holds.
struct SlotShare {
  Incarnation from_process;
  int from_fd = -1;
  Incarnation process;
  int fd = -1;
  bool close_on_exec = false;
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
  std::vector<SlotShare> share;
  std::vector<SlotClose> close;
  std::vector<SlotFlag> flags;
  std::vector<DescriptionAdjust> adjust;
  std::vector<EpollChange> epolls;
  std::vector<Notice> unrestorable;
};
// `switched`: indices of the volumes whose overlay changes, where every file is opened anew. Of `live`, the
// incarnations of the target count (the others are ended before).
DescriptorPlan plan_descriptors(const TreeImage& live, const TreeImage& target, const std::set<int>& switched,
                                const std::set<SharedObjectId>& renewed = {});

}  // namespace deltabox
