// Maps a part of a target mapping again, from the file that is at its path now.
#pragma once

#include <set>
#include <vector>

#include "base/result.h"
#include "deltacr/capture.h"
#include "reconcile/plan.h"
#include "reconcile/revived_files.h"

namespace deltabox {

// A part whose file can't be opened any more.
struct UnmappedPart {
  MapRange part;
  Error reason;
};
// `free_slot`: from here on no descriptor of the process is open; the files' ones are there for a moment.
Result<std::vector<UnmappedPart>> map_anew(HeldProcess& held, const std::vector<MapRange>& parts, int m1_root,
                                           int free_slot, RevivedFiles& revived);

int free_slot_of(const ProcessImage& process);

// Shared mappings of files on the switched volumes, of a process that goes on after a checkpoint.
Result<void> move_shared_mappings(HeldProcess& held, const ProcessImage& process, const std::set<int>& switched,
                                  int m1_root, RevivedFiles& revived);

}  // namespace deltabox
