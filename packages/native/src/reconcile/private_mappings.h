// Private mappings that keep an overlay busy.
//
// A file that was open for writing when it was mapped stays open for writing as long as the mapping is there, whoever
// closed the descriptor. Nobody can write the file through a private mapping, but its mount can't be made read-only.
// From outside such a mapping looks like any other, so it is looked for when a mount refuses.
#pragma once

#include <cstdint>
#include <set>
#include <vector>

#include "base/result.h"
#include "deltacr/capture.h"
#include "deltacr/image.h"

namespace deltabox {

// Maps all private mappings of files on these devices anew, from the files that are at their paths now; pages of the
// processes' own stay. A file that has no path any more becomes memory with its contents, which is told. `image`: what
// the held processes are by now.
Result<std::vector<Notice>> move_private_mappings(TreeCapture& capture, const TreeImage& image,
                                                  const std::set<std::uint64_t>& devices, int m1_root);

}  // namespace deltabox
