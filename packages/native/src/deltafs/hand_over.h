// Files that keep their inode across a switch.
//
// A file of the writable layer that tasks hold open for writing, or have mapped shared, can't simply be sealed: they
// would go on writing the sealed layer, and opening it anew for writing on the next overlay would copy all of it, into
// an inode of another number. So its inode goes over into the next writable layer under the same path, and the sealed
// layer gets a copy, unless the layers below hold one already that is equal:
//
//            writable layer U            next writable layer U'
//   before   db ─► inode 7               (empty)
//   after    db ─► copy of 7 (sealed)    db ─► inode 7        or  U has no db, when a layer below U has the same
//
// A rollback takes the inodes of the target's open files over in the same way, and then corrects their contents.
//
// overlayfs shows a copied-up file with the number of the file below. In a user namespace it does so only until the
// next mount (ovl_decode_real_fh() asks for CAP_DAC_READ_SEARCH), so such a file has another number once, after the
// first seal.
//
//   prepare (may fail; undone by the destructor)  →  commit (renames)  →  switch  →  correct (rollback)
//
// The whole runs in a pause: no task changes either layer meanwhile.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "deltafs/copies_ahead.h"
#include "deltafs/layer_files.h"
#include "deltafs/stack_lookup.h"
#include "deltafs/volume.h"

namespace deltabox {

class HandOver {
 public:
  // Of `files`, those that the volume's writable layer holds go over into next's.
  // `ahead`: what was done for them while tasks ran.
  static Result<HandOver> prepare(Volume& volume, const StagedOverlay& next, const std::vector<FileToKeep>& files,
                                  CopiesAhead ahead = {});
  HandOver(HandOver&& other) noexcept;
  HandOver& operator=(HandOver&&) = delete;
  // Takes back what prepare() did, unless it was committed.
  ~HandOver();

  // Puts the sealed copies in place, before the switch.
  Result<void> commit();
  // After commit, in a rollback: gives the inodes the contents that they have in the target's layers.
  Result<void> correct();

  const std::vector<KeptFile>& kept() const { return kept_; }
  std::uint64_t copied_bytes() const { return copied_bytes_; }
  // Of these, before it: by CopiesAhead.
  std::uint64_t copied_ahead_bytes() const { return copied_ahead_bytes_; }
  // What the next writable layer holds after this; as long as nothing of it changes the layer counts as unwritten.
  Result<WrittenMark> mark() const;

 private:
  struct Step {
    std::string path;                // in the layer that is entered
    std::vector<std::string> names;  // in the layer that is left: all hard links, the file's own path first
    InodeId inode;
    UniqueFd file;                       // the inode
    std::string temporary;               // the sealed copy, beside the layer; empty: none is made
    InodeId copy;                        // the sealed copy
    bool is_told = true;                 // its version tells whether it was written
    bool unwritten_since_ahead = false;  // what `ahead_` has of it still holds
  };
  struct MadeDir {
    std::string path;
    timespec times[2];
  };
  HandOver(Volume& volume, const StagedOverlay& next, CopiesAhead ahead);
  Result<void> add(const FileToKeep& file);
  Result<bool> has_equal_copy(const Step& step, const FileVersion& version);
  Result<void> make_copy(Step& step);
  Result<LayerDir> model_of(const std::string& dir);
  Result<void> make_parents(const std::string& path);
  Result<void> link_into_next(const Step& step, const std::string& name);
  Result<void> finish_dirs();
  Result<void> replace_in_left(const Step& step);

  Volume* volume_;
  CopiesAhead ahead_;
  std::shared_ptr<const Layer> left_;
  LayerDir left_dir_;
  LayerDir entered_dir_;
  std::vector<Step> steps_;
  StackFiles live_;
  StackFiles next_;
  bool is_seal_;  // the layer that is left becomes the topmost of the next stack
  OpenDirs left_dirs_;
  OpenDirs entered_dirs_;
  LayerNames left_names_;
  std::set<std::string> present_dirs_;  // in the next layer
  std::vector<MadeDir> made_dirs_;      // in the next layer, parents before children
  std::vector<std::string> made_links_;
  std::map<std::string, std::array<timespec, 2>> left_times_;  // of directories that a commit changes
  std::vector<KeptFile> kept_;
  std::uint64_t copied_bytes_ = 0;
  std::uint64_t copied_ahead_bytes_ = 0;
  bool committed_ = false;
};

}  // namespace deltabox
