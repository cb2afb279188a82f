// Contents of files without a name, as files of the store that nobody keeps open: an engine has thousands of
// checkpoints and few descriptors. The names are the engine's own; what it leaves when it is killed, the next one
// removes.
#pragma once

#include <cstdint>
#include <memory>

#include "base/result.h"
#include "base/unique_fd.h"

namespace deltabox {

class StoredFile {
 public:
  StoredFile(std::shared_ptr<const UniqueFd> dir, std::uint64_t number) : dir_(std::move(dir)), number_(number) {}
  StoredFile(const StoredFile&) = delete;
  StoredFile& operator=(const StoredFile&) = delete;
  ~StoredFile();
  // `flags`: O_RDONLY or O_RDWR.
  Result<UniqueFd> open(int flags) const;

 private:
  std::shared_ptr<const UniqueFd> dir_;
  std::uint64_t number_;
};

class StoredFiles {
 public:
  StoredFiles() = default;
  // Below store_fd; removes what an earlier engine left.
  static Result<StoredFiles> create(int store_fd);
  // Empty; it goes from the disk with its last owner.
  Result<std::shared_ptr<const StoredFile>> make();

 private:
  std::shared_ptr<const UniqueFd> dir_;
  std::uint64_t last_ = 0;
};

}  // namespace deltabox
