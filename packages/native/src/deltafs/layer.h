// A layer is a directory of the store that holds what changed between two seals. While it is a volume's upper directory
// it is written; once sealed it never changes again (invariant 1 of DeltaFS), so that any number of stacks can share
// it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace deltabox {

// Layers that nothing refers to any more, to be removed from the disk. Filled by whoever drops the last reference.
class LayerTrash {
 public:
  void add(std::uint64_t id);
  std::vector<std::uint64_t> take();

 private:
  std::mutex mutex_;
  std::vector<std::uint64_t> ids_;
};

// Open for as long as somebody has it.
using LayerDir = std::shared_ptr<const UniqueFd>;

// The store of the sandbox that this one was forked from: layers up to `last` are there, and never change.
struct DonorStore {
  UniqueFd root;  // in M0
  std::uint64_t last = 0;
};

// Opens the directories of layers, and keeps the last ones open: an engine has thousands of layers and few descriptors.
// For any thread.
class LayerDirs {
 public:
  LayerDirs(UniqueFd root, std::vector<DonorStore> donors) : root_(std::move(root)), donors_(std::move(donors)) {}
  Result<LayerDir> open(std::uint64_t id);
  void forget(std::uint64_t id);
  int root() const { return root_.get(); }
  std::uint64_t last_inherited() const { return donors_.empty() ? 0 : donors_.back().last; }

 private:
  struct Kept {
    LayerDir dir;
    std::uint64_t used = 0;
  };
  Result<UniqueFd> open_anew(std::uint64_t id) const;

  UniqueFd root_;
  std::vector<DonorStore> donors_;
  std::mutex mutex_;
  std::map<std::uint64_t, Kept> kept_;
  std::uint64_t clock_ = 0;
};

struct Layer {
  Layer() = default;
  Layer(const Layer&) = delete;
  Layer& operator=(const Layer&) = delete;
  ~Layer();
  Result<LayerDir> open() const;

  std::uint64_t id = 0;  // unique in the store; 0: a base directory of the host
  LayerDir base;         // of such a one
  std::shared_ptr<LayerDirs> dirs;
  int level = 0;  // merged from layers of the level below (merge.h)
  std::shared_ptr<LayerTrash> trash;
};

// Bottom first. A stack is immutable and shared between checkpoints.
using LayerStack = std::vector<std::shared_ptr<const Layer>>;

struct LayerUsage {
  std::uint64_t files = 0;  // entries of any kind, whiteouts included
  std::uint64_t bytes = 0;  // allocated blocks
};

// overlayfs takes at most 500 lower directories (OVL_MAX_STACK). Background merging keeps stacks far below.
inline constexpr std::size_t kMaxStackDepth = 480;

// How copies of files begin that lie beside a layer until they get their place in it.
inline constexpr const char* kCopyPrefix = "copy-";

class LayerStore {
 public:
  LayerStore() = default;
  // store_fd: the root of the store, in M0. `donors`: by their last layers; ids of its own begin behind them.
  static Result<LayerStore> create(int store_fd, std::vector<DonorStore> donors = {});
  // A new empty layer and the work directory that overlayfs wants beside it. A volatile mount refuses a work directory
  // that was used before, so each layer brings its own.
  struct Fresh {
    std::shared_ptr<const Layer> layer;
    LayerDir dir;
    UniqueFd work;
  };
  // On any thread.
  Result<Fresh> make_layer(mode_t mode, int level = 0);
  // Layers that nothing refers to any more.
  std::vector<std::uint64_t> take_unused();
  // Removes such a layer from the disk. On any thread.
  Result<void> remove(std::uint64_t id) const;
  // A layer that an earlier engine made.
  Result<std::shared_ptr<const Layer>> open_layer(std::uint64_t id);
  std::uint64_t last_id() const { return next_id_ - 1; }
  // Whether every change of a directory after a look at it gives it another ctime (multigrain timestamps: ext4, XFS,
  // btrfs and tmpfs, 6.13). Elsewhere two changes within a tick of the kernel's clock can have the same.
  bool ctimes_tell_changes() const { return ctimes_tell_changes_; }
  // Whether a store through a shared mapping gives the file another ctime, also where the mapping is gone before
  // anybody looks. Elsewhere (tmpfs) what may have been mapped is compared.
  bool ctimes_tell_stores() const { return ctimes_tell_stores_; }
  // Whether a copy of a file takes no copying (reflinks: XFS, btrfs).
  bool copies_share_blocks() const { return copies_share_blocks_; }
  // Takes ids behind all that exist, and lists those that exist, without what the end of an engine left beside them.
  Result<std::vector<std::uint64_t>> adopt_ids();
  // An empty base directory for a volume without a host directory; the one that an earlier engine made, if there is.
  Result<std::shared_ptr<const Layer>> make_base(const std::string& name, mode_t mode,
                                                 const std::vector<std::string>& dirs);

 private:
  std::shared_ptr<LayerDirs> dirs_;
  bool ctimes_tell_changes_ = false;
  bool ctimes_tell_stores_ = false;
  bool copies_share_blocks_ = false;
  std::uint64_t next_id_ = 1;
  std::shared_ptr<LayerTrash> trash_ = std::make_shared<LayerTrash>();
};

Result<LayerUsage> measure_layer(const Layer& layer);

}  // namespace deltabox
