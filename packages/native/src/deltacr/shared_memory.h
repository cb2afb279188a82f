// Memory that processes share and that no volume has: MAP_SHARED | MAP_ANONYMOUS, memfd, System V. It is captured as an
// object, whoever maps it: write protection of one mapping sees neither what is written through another nor write(2),
// and a mapping may have come and gone since the last look. So what is resident is compared in full; pages that did
// not change are shared with the checkpoint before.
//
// An object with a descriptor is read through that. Without one it is read through its mappings (there is no way to a
// descriptor but /proc/PID/map_files, which needs privileges in the initial user namespace); mincore(2) says what is
// not a hole.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "deltacr/image.h"
#include "pagestore/page_store.h"

namespace deltabox {

class TreeCapture;

// A part of an object that a process has mapped.
struct SharedPiece {
  Incarnation process = 0;
  HostTid pid;
  AddressRange range;
  std::uint64_t offset = 0;  // in the object
  int protection = 0;
};
// Mappings of the object that together show all of it that anybody has mapped, each part once. Only those with all of
// `protection`. Pure.
std::vector<SharedPiece> cover_object(const TreeImage& image, SharedObjectId object, int protection);

class SharedMemoryReader {
 public:
  SharedMemoryReader() = default;
  static Result<SharedMemoryReader> create(int proc_fd, int self_fd_dir);

  void begin();
  // Of a mapping; 0 when it is no such memory.
  SharedObjectId object_of(const Mapping& mapping);
  // Of a descriptor, any of the object's will do; 0 when it is no such memory.
  Result<SharedObjectId> meet(std::uint64_t device, std::uint64_t inode, const std::string& name, int duplicate);
  // Reads the objects met and those that processes have mapped into the image. Processes must be held.
  Result<void> read(TreeImage& image, TreeCapture& capture, PageStore& store);

  // After a rollback: `object` is the target's now, in place or (with a descriptor of it) made anew.
  Result<void> adopt(const SharedMemory& target, int made_anew);

 private:
  struct Key {
    std::uint64_t inode = 0;
    bool system_v = false;  // its inode number is its id, which others may have as well
    auto operator<=>(const Key&) const = default;
  };
  struct Known {
    SharedObjectId id = 0;
    PageMap pages;  // at the last look
    int seals = 0;
    bool is_met = false;
    UniqueFd file;  // of the capture that is under way
    std::string name;
  };
  struct Content;
  static bool is_system_v(const std::string& name) { return name.starts_with("/SYSV"); }
  Known& known(const Key& key);
  Result<Content> find_content(const Known& object, SharedMemory& found, const std::vector<SharedPiece>& pieces,
                               TreeCapture& capture) const;
  static Result<void> ask_segment(int id, SharedMemory& found, const std::vector<SharedPiece>& pieces,
                                  TreeCapture& capture);
  static Result<std::vector<PageNumber>> changed_pages(const Content& content, const PageMap& before,
                                                       const PageStore& store);
  static Result<void> store_run(const Content& content, PageNumber first, std::size_t count, PageStore& store,
                                std::vector<PageUpdate>& updates);
  Result<std::vector<AddressRange>> resident_parts(const SharedPiece& piece, TreeCapture& capture) const;

  int proc_fd_ = -1;
  int self_fd_dir_ = -1;
  std::uint64_t device_ = 0;  // of the kernel's own tmpfs
  std::map<Key, Known> objects_;
  SharedObjectId next_id_ = first_name();
};

}  // namespace deltabox
