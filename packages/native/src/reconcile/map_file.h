// Maps a range of a frozen process anew.
#pragma once

#include <set>

#include "base/result.h"
#include "deltacr/capture.h"
#include "reconcile/plan.h"
#include "reconcile/revived_files.h"

namespace deltabox {

// Files are opened by the engine, below m1_root. `free_slot`: a descriptor number above all that the process has, where
// a file sits while it is mapped. The value says why a file could not be opened; then nothing was mapped.
Result<std::optional<Error>> map_anew(HeldProcess& held, const MapRange& part, int m1_root, int free_slot,
                                      RevivedFiles& revived);

// A number that no descriptor of the process has.
int free_slot_of(const ProcessImage& process);

// After a switch under unchanged processes: shared mappings of files on the switched volumes move to the new overlays,
// where they show the same pages of the same inodes. Fails when one would stay behind.
Result<void> move_shared_mappings(HeldProcess& held, const ProcessImage& process, const std::set<int>& switched,
                                  int m1_root, RevivedFiles& revived);

}  // namespace deltabox
