// The process state of a checkpoint as bytes, and back. Pages are named by where they lie in page files; what an image
// holds by descriptor (pipes, files without a name) is made anew when it is read.
#pragma once

#include <memory>
#include <set>
#include <string>

#include "base/result.h"
#include "deltacr/image.h"
#include "images/page_files.h"

namespace deltabox {

struct WrittenImage {
  std::string bytes;
  std::set<std::uint64_t> files;  // the page files that it needs
};
// New pages go to the file that `pages` has begun.
Result<WrittenImage> write_image(const TreeImage& image, PageFiles& pages);

struct ImageSurroundings {
  PageFiles& pages;
  PageStore& store;
  int self_fd_dir;
  StoredFiles& stored_files;  // where contents of files without a name go
};
// `name`: of the image, for errors. The files it names have been checked to be there, or reading fails with DAMAGED.
Result<std::shared_ptr<TreeImage>> read_image(const std::string& bytes, const std::string& name,
                                              const ImageSurroundings& around);

}  // namespace deltabox
