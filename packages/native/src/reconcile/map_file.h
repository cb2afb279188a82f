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
// Of one process.
struct Remapping {
  HeldProcess* held = nullptr;
  std::vector<MapRange> parts;
  std::vector<UnmappedPart> failed;
};
// Processes side by side.
Result<void> map_anew(std::vector<Remapping>& remappings, int m1_root, RevivedFiles& revived);
Result<std::vector<UnmappedPart>> map_anew(HeldProcess& held, const std::vector<MapRange>& parts, int m1_root,
                                           RevivedFiles& revived);

// Shared mappings of files on the switched volumes, of processes that go on after a checkpoint.
Result<void> move_shared_mappings(TreeCapture& capture, const TreeImage& image, const std::set<int>& switched,
                                  int m1_root, RevivedFiles& revived);

}  // namespace deltabox
