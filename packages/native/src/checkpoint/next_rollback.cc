#include "checkpoint/next_rollback.h"

#include <utility>

namespace deltabox {

namespace {

constexpr int kTriesInVain = 4;

}  // namespace

std::optional<StagedOverlay> NextRollback::take(std::size_t volume, const LayerStack& stack) {
  Expected& expected = volumes_[volume];
  expected.tries = kTriesInVain;
  if (!expected.staged || *expected.staged->stack != stack) return std::nullopt;
  return std::exchange(expected.staged, std::nullopt);
}

bool NextRollback::is_due(std::size_t volume, const LayerStack& stack) const {
  const Expected& expected = volumes_[volume];
  return expected.staged ? *expected.staged->stack != stack : expected.tries > 0;
}

Result<void> NextRollback::stage(std::size_t index, const Volume& volume, LayerStore& layers,
                                 const std::shared_ptr<const LayerStack>& stack) {
  if (!is_due(index, *stack)) return {};
  Expected& expected = volumes_[index];
  expected.staged.reset();
  if (expected.tries == 0) return {};
  --expected.tries;
  expected.staged = TRY(volume.stage(layers, stack));
  return {};
}

}  // namespace deltabox
