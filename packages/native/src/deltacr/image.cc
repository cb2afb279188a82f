#include "deltacr/image.h"

#include <fcntl.h>

namespace deltabox {

bool Description::same_object(const Description& other) const {
  constexpr int kFixedFlags = O_ACCMODE | O_PATH | O_DIRECTORY;
  // What stays on a parked overlay has lost the front of its path; its inode is what it is.
  const bool path_matters =
      is_fifo_at_path() || (!deleted && (kind == DescriptionKind::kFile || kind == DescriptionKind::kDevice));
  // Made anew, memory keeps its id and gets another inode; sockets are told by what they are (difference_of), and FIFOs
  // have another inode on each overlay.
  const bool same_inode =
      kind == DescriptionKind::kSocket || (is_fifo_at_path() && volume == other.volume) ||
      (shared_object != 0 ? shared_object == other.shared_object : inode == other.inode && device == other.device);
  return kind == other.kind && type == other.type && terminal == other.terminal && same_inode &&
         deleted == other.deleted && (!path_matters || path == other.path) &&
         (status_flags & kFixedFlags) == (other.status_flags & kFixedFlags);
}

const ProcessImage* TreeImage::find(Incarnation incarnation) const {
  for (const ProcessImage& process : processes) {
    if (process.incarnation == incarnation) return &process;
  }
  return nullptr;
}

const ProcessImage* TreeImage::find_by_pid(InsidePid pid) const {
  for (const ProcessImage& process : processes) {
    if (process.pid == pid) return &process;
  }
  return nullptr;
}

const ThreadImage* ProcessImage::find_thread(InsidePid inside) const {
  for (const ThreadImage& thread : threads) {
    if (thread.inside == inside) return &thread;
  }
  return nullptr;
}

const Description* TreeImage::description_at(const ProcessImage& process, int fd) const {
  for (const DescriptorSlot& slot : process.descriptors) {
    if (slot.fd == fd) return &descriptions[slot.description];
  }
  return nullptr;
}

const DeletedFile* TreeImage::find_deleted(std::uint64_t device, std::uint64_t inode) const {
  for (const DeletedFile& file : deleted_files) {
    if (file.device == device && file.inode == inode) return &file;
  }
  return nullptr;
}

const TerminalImage* TreeImage::find_terminal(int number) const {
  for (const TerminalImage& terminal : terminals) {
    if (terminal.number == number) return &terminal;
  }
  return nullptr;
}

const TerminalImage* TreeImage::terminal_of(std::int32_t session) const {
  for (const TerminalImage& terminal : terminals) {
    if (session > 0 && terminal.session == session) return &terminal;
  }
  return nullptr;
}

const SharedMemory* TreeImage::find_shared(SharedObjectId id) const {
  for (const SharedMemory& memory : shared_memory) {
    if (memory.id == id) return &memory;
  }
  return nullptr;
}

}  // namespace deltabox
