// Merging layers: a stack that has grown deep costs every lookup (kernel-notes: a miss 1.5 µs at depth 1, 69 at 50), so
// runs of layers become one, in the background. The merged layer holds hard links of the same inodes: no data is
// copied, and inode numbers stay; the number of links shows one more until the old layers go.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <vector>

#include "base/result.h"
#include "deltafs/layer.h"

namespace deltabox {

struct LayerRun {
  std::size_t first = 0;  // in the stack, bottom first
  std::size_t count = 0;
};

// Which layers of a stack to merge next: a group of kMergeFanOut neighbours of the same level, as in a log-structured
// merge tree, so that each file is linked about log4(n) times over n checkpoints and the depth stays below 3 log4(n)
// + 4. The lowest layer (the base) takes no part. Pure.
std::optional<LayerRun> choose_run(const LayerStack& stack);
inline constexpr std::size_t kMergeFanOut = 4;

// Fills the empty directory `into` with what the layers (bottom first) show together on top of those `below`. On
// another thread.
Result<void> merge_layers(const LayerStack& layers, const LayerStack& below, int into);

// The stack with the run replaced, or the stack itself when it does not hold the run.
std::shared_ptr<const LayerStack> with_merged(const std::shared_ptr<const LayerStack>& stack, const LayerStack& run,
                                              const std::shared_ptr<const Layer>& merged);

}  // namespace deltabox
