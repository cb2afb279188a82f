// What the next rollback switches to, mounted ahead of it: three directories and an overlay mount take as long as the
// pause, and who rolls back once does it again. Staged only for volumes that a rollback has switched, until that was
// for nothing so often.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "deltafs/layer.h"
#include "deltafs/volume.h"

namespace deltabox {

class NextRollback {
 public:
  explicit NextRollback(std::size_t volumes = 0) : volumes_(volumes) {}

  // A debug loop goes back to where it is, a tree search to the same fork of the tree: the next one does as the last.
  void went_to(const std::string& checkpoint, bool was_head) { again_ = was_head ? std::string() : checkpoint; }
  // The checkpoint that is expected; empty: the head.
  const std::string& expected() const { return again_; }

  // For a rollback that switches the volume to `stack`.
  std::optional<StagedOverlay> take(std::size_t volume, const LayerStack& stack);
  // Whether stage() has something to do, of which `stack` is expected.
  bool is_due(std::size_t volume, const LayerStack& stack) const;
  // In M0. What is overtaken is unmounted, and its layer unused.
  Result<void> stage(std::size_t index, const Volume& volume, LayerStore& layers,
                     const std::shared_ptr<const LayerStack>& stack);

 private:
  struct Expected {
    std::optional<StagedOverlay> staged;
    int tries = 0;
  };
  std::vector<Expected> volumes_;
  std::string again_;
};

}  // namespace deltabox
