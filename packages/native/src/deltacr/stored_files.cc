#include "deltacr/stored_files.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <utility>

#include "sys/files.h"

namespace deltabox {

namespace {

constexpr const char* kFiles = "files";

}  // namespace

StoredFile::~StoredFile() { ::unlinkat(dir_->get(), std::to_string(number_).c_str(), 0); }

Result<UniqueFd> StoredFile::open(int flags) const {
  return sys::open_at(dir_->get(), std::to_string(number_), flags | O_NOFOLLOW);
}

Result<StoredFiles> StoredFiles::create(int store_fd) {
  const Result<void> made = sys::make_dir_at(store_fd, kFiles, 0700);
  if (!made.ok() && made.error().os_errno != EEXIST) return made.error();
  StoredFiles files;
  files.dir_ = std::make_shared<const UniqueFd>(TRY(sys::open_at(store_fd, kFiles, O_RDONLY | O_DIRECTORY)));
  for (const std::string& name : TRY(sys::list_dir(files.dir_->get()))) {
    ::unlinkat(files.dir_->get(), name.c_str(), 0);
  }
  return files;
}

Result<std::shared_ptr<const StoredFile>> StoredFiles::make() {
  const std::uint64_t number = ++last_;
  (void)TRY(sys::open_at(dir_->get(), std::to_string(number), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
  return std::make_shared<const StoredFile>(dir_, number);
}

}  // namespace deltabox
