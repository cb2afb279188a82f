// Files without a name that tasks hold open or have mapped shared. No layer has them, so their contents are kept by
// value: in a file of the store, shared by the checkpoints between which nothing was written.
#pragma once

#include <map>
#include <memory>
#include <utility>

#include "base/result.h"
#include "base/unique_fd.h"
#include "deltacr/descriptors.h"
#include "deltacr/image.h"

namespace deltabox {

class DeletedFileReader {
 public:
  DeletedFileReader() = default;
  // `files`: where the contents lie.
  DeletedFileReader(StoredFiles& files, int self_fd_dir) : files_(&files), self_fd_dir_(self_fd_dir) {}
  void begin(std::vector<VolumeView> volumes);
  // A descriptor of such a file; any will do.
  Result<void> meet(const Description& description, int duplicate);
  // Reads the contents of all files met, and of those that are only mapped, into the image. Processes must be held.
  Result<void> read(TreeImage& image);

 private:
  using Key = std::pair<std::uint64_t, std::uint64_t>;  // device, inode
  struct Met {
    int volume = -1;
    UniqueFd file;
    bool mapped = false;
  };
  struct Known {
    std::weak_ptr<const FileContents> contents;
    std::int64_t size_bytes = 0;
    std::int64_t mtime_ns = 0;
    std::int64_t ctime_ns = 0;
  };
  Result<std::shared_ptr<const FileContents>> read_file(const Key& key, const Met& met);
  Result<std::shared_ptr<const FileContents>> read_mapping(HostTid pid, const Mapping& mapping);

  StoredFiles* files_ = nullptr;
  int self_fd_dir_ = -1;
  std::map<Key, Known> known_;
  // of the capture that is under way
  std::vector<VolumeView> volumes_;
  std::map<Key, Met> met_;
};

}  // namespace deltabox
