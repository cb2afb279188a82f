// Files without a name, made anew: one unnamed file per file of the image, which all its descriptors and mappings
// share. The same for memory without a file.
#pragma once

#include <map>
#include <utility>

#include "base/result.h"
#include "base/unique_fd.h"
#include "deltacr/image.h"

namespace deltabox {

class RevivedFiles {
 public:
  // The image must outlive this.
  RevivedFiles(const TreeImage& image, int m1_root) : image_(image), m1_root_(m1_root) {}

  // A descriptor for reading and writing, made at the first call for a file. On the overlay that is in place now.
  Result<int> file(std::uint64_t device, std::uint64_t inode);

  // Descriptors of shared memory; -1 where there is none.
  void give_memory(SharedObjectId id, UniqueFd file) { memory_[id] = std::move(file); }
  int memory(SharedObjectId id) const {
    const auto found = memory_.find(id);
    return found != memory_.end() ? found->second.get() : -1;
  }

 private:
  const TreeImage& image_;
  int m1_root_;
  std::map<std::pair<std::uint64_t, std::uint64_t>, UniqueFd> made_;
  std::map<SharedObjectId, UniqueFd> memory_;
};

}  // namespace deltabox
