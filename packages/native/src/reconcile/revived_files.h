// Files without a name, made anew: one unnamed file per file of the image, which all its descriptors and mappings
// share.
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

 private:
  const TreeImage& image_;
  int m1_root_;
  std::map<std::pair<std::uint64_t, std::uint64_t>, UniqueFd> made_;
};

}  // namespace deltabox
