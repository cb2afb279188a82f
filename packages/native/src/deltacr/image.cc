#include "deltacr/image.h"

#include <fcntl.h>

namespace deltabox {

bool Description::same_object(const Description& other) const {
  constexpr int kFixedFlags = O_ACCMODE | O_PATH | O_DIRECTORY;
  return kind == other.kind && inode == other.inode && device == other.device && path == other.path &&
         deleted == other.deleted && (status_flags & kFixedFlags) == (other.status_flags & kFixedFlags);
}

const ProcessImage* TreeImage::find(Incarnation incarnation) const {
  for (const ProcessImage& process : processes) {
    if (process.incarnation == incarnation) return &process;
  }
  return nullptr;
}

}  // namespace deltabox
