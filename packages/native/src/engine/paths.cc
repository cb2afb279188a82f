#include "engine/paths.h"

#include <fcntl.h>
#include <unistd.h>

#include "sys/files.h"

namespace deltabox {

Result<std::string> init_binary_path() {
  const std::string self = TRY(sys::read_link_at(AT_FDCWD, "/proc/self/exe"));
  const std::string path = self.substr(0, self.rfind('/')) + "/deltabox-init";
  if (::access(path.c_str(), R_OK | X_OK) != 0) {
    Error error = os_error("access", path);
    error.next_step = "The installation is incomplete: build or install @deltabox/native again.";
    return error;
  }
  return path;
}

}  // namespace deltabox
