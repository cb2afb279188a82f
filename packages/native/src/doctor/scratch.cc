#include "doctor/scratch.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "sys/files.h"

namespace deltabox::doctor {

namespace {

constexpr int kMaxDepth = 8;  // probes nest four deep, and overlayfs two more below its work directory

void remove_at(int dir_fd, const std::string& name, int depth) {
  if (::unlinkat(dir_fd, name.c_str(), 0) == 0 || errno != EISDIR || depth == kMaxDepth) return;
  // overlayfs makes a directory with mode 0 in its work directory, and a volatile mount leaves a mark inside that.
  ::fchmodat(dir_fd, name.c_str(), 0700, 0);
  const Result<UniqueFd> dir = sys::open_at(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (dir.ok()) {
    const Result<std::vector<std::string>> names = sys::list_dir(dir.value().get());
    if (names.ok()) {
      for (const std::string& below : names.value()) remove_at(dir.value().get(), below, depth + 1);
    }
  }
  ::unlinkat(dir_fd, name.c_str(), AT_REMOVEDIR);
}

}  // namespace

Result<std::string> make_scratch(const std::string& state_dir) {
  std::string path = state_dir + "/doctor-XXXXXX";
  if (::mkdtemp(path.data()) == nullptr) return os_error("mkdtemp", state_dir);
  return path;
}

void remove_scratch(const std::string& path) { remove_at(AT_FDCWD, path, 0); }

}  // namespace deltabox::doctor
