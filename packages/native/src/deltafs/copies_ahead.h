// What a pause would do with open files, done while tasks still run: finding them in sealed layers, and their contents.
//
// Where the file system does not share blocks, a changed file that keeps its inode (hand_over.h) is copied whole, and a
// rollback compares it whole with what it is to hold. For files that were handed over before, or that a pause has just
// found (which then is broken off), both are done ahead. The pause then finds that nothing was written since, or
// corrects the blocks that were: pre-copying, as live migration does it with memory (Clark et al., NSDI 2005).
//
//   look (versions)  →  leave_out (files that are written unseen)  →  work (copies)  →  freeze  →  hand-over
//
// A file's ctime tells that it was written, if it was by write(2): the kernel sets it before the data, both under the
// inode's lock. So its version is taken first; then writes under way are waited for, in SEEK_DATA, which takes that
// lock; only then is anything read. Stores through a mapping change the ctime once per page and mapping, direct I/O
// overwrites without the lock: such files are left to the pause.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "deltafs/layer_files.h"
#include "deltafs/volume.h"
#include "sys/file_copy.h"

namespace deltabox {

// Of one file.
struct AheadCopy {
  std::string path;  // in the writable layer
  InodeId inode;
  FileVersion version;  // before anything was read
  UniqueFd file;
  // For the layer that will be sealed, beside it; invalid: none was made.
  UniqueFd copy;
  std::string copy_name;
  std::uint64_t copied_bytes = 0;
  bool wants_copy = false;
  // For a rollback: how it differs from the target's.
  InodeId target;
  LayerDir target_dir;
  std::string target_path;
  std::optional<sys::FileDifferences> differences;
};

// Of a copy that has no place in the layer yet: beside it.
std::string copy_name_of(const InodeId& inode);

class CopiesAhead {
 public:
  CopiesAhead() = default;
  CopiesAhead(CopiesAhead&&) noexcept = default;
  CopiesAhead& operator=(CopiesAhead&&) = delete;
  // Removes the copies that nobody took.
  ~CopiesAhead();

  // Of files that are handed over, the large ones have to be copied for it.
  Result<void> look(const Volume& volume, const std::vector<KeptFile>& files);
  // For a rollback: those that it has to correct.
  Result<void> look_at_target(const Volume& volume, const std::shared_ptr<const LayerStack>& stack,
                              const std::vector<KeptFile>& wanted);
  bool empty() const { return files_.empty(); }
  // `names`: the last components of paths.
  void leave_out(const std::set<std::string>& names);
  // What fails here fails in the pause as well, and is told there.
  void work();

  // Null: nothing was done for it.
  AheadCopy* find(const InodeId& inode);
  // What was looked up of these stacks, to go on with.
  StackFiles take_live(const Volume& volume);
  StackFiles take_target(const std::shared_ptr<const LayerStack>& stack);
  // In the pause: very large ones of these that it would have to copy, since nobody had looked at them.
  Result<std::vector<KeptFile>> missed(const Volume& volume, const std::vector<FileToKeep>& files);

 private:
  Result<AheadCopy*> add(const std::string& path, std::int64_t at_least_bytes);
  Result<AheadCopy*> add(const KeptFile& kept);

  LayerDir layer_dir_;
  std::vector<AheadCopy> files_;
  std::optional<StackFiles> live_;
  std::optional<StackFiles> target_;
};

}  // namespace deltabox
