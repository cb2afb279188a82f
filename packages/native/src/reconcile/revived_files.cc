#include "reconcile/revived_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sys/file_copy.h"
#include "sys/files.h"

namespace deltabox {

Result<int> RevivedFiles::file(std::uint64_t device, std::uint64_t inode) {
  UniqueFd& made = made_[{device, inode}];
  if (made.valid()) return made.get();
  const DeletedFile* wanted = image_.find_deleted(device, inode);
  if (wanted == nullptr) return make_error(Code::kInternal, "the contents of a deleted file are not in the image");
  UniqueFd fresh = TRY(sys::open_in_root(m1_root_, wanted->volume_path, O_TMPFILE | O_RDWR, 0600));
  TRY(sys::copy_file_data(TRY(wanted->contents->file->open(O_RDONLY)).get(), fresh.get()));
  // An owner without an id in the sandbox can't be given; the file is then the sandbox's own.
  (void)::fchown(fresh.get(), wanted->contents->uid, wanted->contents->gid);
  if (::fchmod(fresh.get(), wanted->contents->mode) != 0) return os_error("fchmod", "deleted file");
  if (::futimens(fresh.get(), wanted->contents->times) != 0) return os_error("futimens", "deleted file");
  made = std::move(fresh);
  return made.get();
}

}  // namespace deltabox
