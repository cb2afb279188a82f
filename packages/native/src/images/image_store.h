// The process states of checkpoints on the disk: store/images/<checkpoint>, and the page files that they share, in
// store/pages. docs/checkpoint-format.md describes both.
//
// An image is prepared by the engine's thread, which takes down what it needs while nothing changes, written by any
// thread, and entered again by the engine's thread.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "deltacr/image.h"
#include "images/machine.h"
#include "images/page_files.h"

namespace deltabox {

struct PreparedImage {
  std::string id;  // of the checkpoint
  std::string file;
  std::set<std::uint64_t> needs;  // page files
  NewPageFile pages;
  std::shared_ptr<const TreeImage> image;  // keeps the pages what they are; given up on the engine's thread
};

class ImageStore {
 public:
  ImageStore() = default;
  // Takes stock of the images of an earlier engine; page files that none of them needs go. All else outlives this.
  static Result<ImageStore> open(int store_fd, int self_fd_dir, PageStore& pages, StoredFiles& files);

  bool has(const std::string& id) const { return needs_.contains(id); }
  std::vector<std::string> all() const;
  // Page files that the image needs.
  std::set<std::uint64_t> files_of(const std::string& id) const;
  // `volumes`: their names, by index.
  Result<PreparedImage> prepare(const std::string& id, std::shared_ptr<const TreeImage> image,
                                const std::vector<std::string>& volumes);
  // On any thread.
  Result<void> write(const PreparedImage& prepared) const;
  // After `write`; `wanted`: whether its checkpoint still exists.
  void enter(PreparedImage prepared, bool written, bool wanted);
  // COLD_INCOMPATIBLE: this machine can't go on with it. DAMAGED.
  Result<std::shared_ptr<const TreeImage>> read(const std::string& id, const std::vector<std::string>& volumes);
  void remove(const std::string& id);

 private:
  void give_back(const std::set<std::uint64_t>& files);

  UniqueFd dir_;
  UniqueFd page_dir_;
  int self_fd_dir_ = -1;
  PageStore* store_ = nullptr;
  StoredFiles* files_ = nullptr;
  Machine machine_;
  std::unique_ptr<PageFiles> pages_;
  std::map<std::string, std::set<std::uint64_t>> needs_;  // of the images on disk
  std::map<std::uint64_t, std::size_t> users_;            // of page files: images on disk or being written
  std::set<std::uint64_t> lost_;                          // page files that could not be written
};

// The files of an image as another sandbox's store needs them, by name below store/. Reads the image's head only.
Result<std::vector<std::string>> image_files(int store_fd, const std::string& id);

}  // namespace deltabox
