// A volume: one mount point inside the sandbox, an overlay of sealed layers under one writable layer.
//
//   stage (in M0, tasks running)             switch (in M1, tasks frozen)          release (tasks running)
//   next overlay is mounted, detached   →    new one BENEATH the top, top parked →  parked overlay detached
//
// A staged overlay may be mounted before the writes that it will show: overlayfs looks names up when asked, and nothing
// asks a detached mount. So a checkpoint's pause holds two mount moves per changed volume, whatever was written.
//
// Invariants:
//  1. A sealed layer never changes. The caller re-opens every descriptor and moves every working directory of tasks off
//     the parked overlay before it thaws them, and hands files that tasks can still write over to the next layer
//     (hand_over.h).
//  2. live_stack() + the writable layer is what tasks see.
//  3. No path leads to a parked overlay, and it is read-only before tasks run again (transaction.cc).
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "deltafs/layer.h"

namespace deltabox {

struct VolumeSpec {
  std::string name;
  std::string path;                    // absolute, inside
  mode_t mode = 0755;                  // of its root directory
  int base = -1;                       // which of the sandbox's host directories is the base; -1: an empty one
  std::vector<std::string> base_dirs;  // made in an empty base
};

// Tells a later write of a file from none: the kernel gives every change another ctime (multigrain timestamps, 6.13).
struct FileVersion {
  std::int64_t size_bytes = 0;
  std::int64_t mtime_ns = 0;
  std::int64_t ctime_ns = 0;
  bool operator==(const FileVersion&) const = default;
};
FileVersion version_of(const struct stat& info);

// What a fresh writable layer was given before anybody wrote to it (hand_over.h).
struct WrittenMark {
  std::vector<std::pair<std::string, FileVersion>> entries;
  bool unknown = false;  // a file is mapped for writing: nothing tells whether it was written
};

// Names one inode of the store for as long as it lives, and after: numbers are reused, births are not.
struct InodeId {
  std::uint64_t number = 0;
  std::int64_t birth_ns = 0;
  auto operator<=>(const InodeId&) const = default;
};

struct KeptFile {
  std::string path;  // relative to the volume's root
  InodeId inode;
  std::vector<std::string> names;  // all of its hard links, `path` among them
};

// The latest sealed copy of a file that kept its inode.
struct SealedCopy {
  std::string path;
  InodeId copy;         // in whatever layers: a merge links it once more
  FileVersion version;  // of the inode, when it equalled the copy
};

// A mounted overlay that is nowhere in the tree yet.
struct StagedOverlay {
  UniqueFd mount;
  std::shared_ptr<const Layer> upper;
  LayerDir upper_dir;
  std::shared_ptr<const LayerStack> stack;  // the lower layers
  std::uint64_t serial = 0;                 // never used again, unlike a device number
  dev_t device = 0;
  std::int64_t upper_ctime_ns = 0;
  bool ctime_tells = false;    // LayerStore::ctimes_tell_changes
  bool stores_tell = false;    // LayerStore::ctimes_tell_stores
  bool shares_blocks = false;  // LayerStore::copies_share_blocks
  WrittenMark mark;
  std::vector<KeptFile> kept;  // files whose inodes came from the layer before
};

class Volume {
 public:
  // Mounts the volume for the first time. Called in M0; `attach` follows in M1.
  // `above`: the layers on top of the base; those of a recovered sandbox.
  static Result<Volume> create(VolumeSpec spec, LayerStore& layers, const std::vector<UniqueFd>& bases,
                               const LayerStack& above = {});
  Result<void> attach(int m1_root_fd);

  const VolumeSpec& spec() const { return spec_; }
  const std::shared_ptr<const LayerStack>& live_stack() const { return live_.stack; }
  bool merge_waits() const { return merge_.has_value(); }
  const std::shared_ptr<const Layer>& writable_layer() const { return live_.upper; }
  const LayerDir& writable_dir() const { return live_.upper_dir; }
  // Identifies descriptors that lie on the live overlay (statx(2), STATX_MNT_ID).
  std::uint64_t mount_id() const { return mount_id_; }
  // Names the overlay in place; never used again.
  std::uint64_t serial() const { return live_.serial; }
  int mount_fd() const { return live_.mount.get(); }
  dev_t device() const { return live_.device; }
  const std::vector<KeptFile>& kept() const { return live_.kept; }
  std::map<InodeId, SealedCopy>& sealed_copies() { return sealed_copies_; }
  const std::map<InodeId, SealedCopy>& sealed_copies() const { return sealed_copies_; }

  // Whether FileVersion tells every change of a directory and every write(2) on this file system, and every store
  // through a mapping.
  bool ctimes_tell_changes() const { return live_.ctime_tells; }
  bool ctimes_tell_stores() const { return live_.stores_tell; }
  bool copies_share_blocks() const { return live_.shares_blocks; }

  // True when anything in the volume changed since the last switch.
  bool changed() const;

  // The overlay that a seal switches to: all live layers sealed, a fresh one on top. In M0.
  Result<StagedOverlay> stage_seal(LayerStore& layers) const;
  // The overlay that a rollback switches to. In M0.
  Result<StagedOverlay> stage(LayerStore& layers, std::shared_ptr<const LayerStack> stack) const;
  // Gives a staged seal the attributes that the live root has now: ahead of the pause, which then only compares, since
  // a change of an inode can wait for the disk. In M0 or M1.
  Result<void> prepare_root(StagedOverlay& staged) const;
  // Puts the staged overlay in place and returns the old one, parked. In M1, with all tasks frozen.
  // `parking_fd` and `place`: where the old one goes.
  Result<UniqueFd> switch_to(StagedOverlay staged, int m1_root_fd, int parking_fd, const std::string& place);
  // Puts a merged layer in place of a run of layers, from the next switch on.
  void use_merged(LayerStack run, std::shared_ptr<const Layer> merged);
  // Sets what counts as unwritten, after kept files were corrected.
  void set_mark(WrittenMark mark) { live_.mark = std::move(mark); }
  // Files that the engine itself has just made (relative paths), with the directories above them: they count as
  // unwritten, too. With all tasks frozen.
  void except_from_changes(const std::vector<std::string>& paths);

 private:
  VolumeSpec spec_;
  StagedOverlay live_;
  std::uint64_t mount_id_ = 0;
  std::map<InodeId, SealedCopy> sealed_copies_;
  struct Merge {
    LayerStack run;
    std::shared_ptr<const Layer> merged;
  };
  std::optional<Merge> merge_;  // waits for the next seal
};

// Detaches a parked overlay. In M1, tasks running.
Result<void> release_parked(UniqueFd parked, int self_fd_dir);

}  // namespace deltabox
