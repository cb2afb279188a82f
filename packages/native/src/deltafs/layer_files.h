// The files of one layer, read in the store: what an inode is, where it lies, and under which names.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "deltafs/layer.h"
#include "deltafs/stack_lookup.h"
#include "deltafs/volume.h"

namespace deltabox {

// What one look at a file tells.
struct SeenFile {
  InodeId inode;
  FileVersion version;
  std::uint64_t links = 0;
};
Result<SeenFile> look_at(int fd);

// A regular file of the layer; none when it is only mapped, from a layer below, or (in a rollback) gone since: ENXIO is
// a whiteout's.
Result<UniqueFd> open_file_of(int layer_dir, const std::string& path);

struct FileToKeep {
  std::string path;                 // relative to the volume's root
  bool mapped_for_writing = false;  // stores through a mapping need not change its times
  std::uint64_t shown_inode = 0;    // as the live overlay shows it; 0: not known
  std::optional<InodeId> inode;     // given: only this inode goes over, else the file is left where it is
  std::vector<std::string> names;   // that it gets then
};

// The directories of one layer that files lie in, opened once for many of them. Nobody else changes the layer
// meanwhile.
class OpenDirs {
 public:
  explicit OpenDirs(LayerDir layer) : layer_(std::move(layer)) {}
  // Through real directories only; valid until the next call.
  Result<int> open(const std::string& path);
  // Whether the directory, or one on the way to it, hides what lies below the layer.
  Result<bool> hides_below(const std::string& path);

 private:
  LayerDir layer_;
  std::map<std::string, UniqueFd> opened_;
  std::map<std::string, bool> hides_;
};

// The paths of an inode in a layer, from one walk through it for all that ask. Nobody changes names there meanwhile.
class LayerNames {
 public:
  Result<std::vector<std::string>> of(int layer_dir, std::uint64_t inode);

 private:
  std::optional<std::multimap<std::uint64_t, std::string>> names_;
};

// The inodes of files that the volume's writable layer holds, before any of them is handed over.
Result<std::vector<KeptFile>> identify_files(const Volume& volume, const std::vector<FileToKeep>& files);

// The regular files of a stack. Its layers are sealed: what was found while tasks ran holds in the pause, too.
class StackFiles {
 public:
  struct Found {
    std::shared_ptr<const Layer> layer;  // the topmost that has it
    InodeId inode;
  };
  explicit StackFiles(std::shared_ptr<const LayerStack> stack) : stack_(std::move(stack)), lookup_(stack_) {}
  const LayerStack& stack() const { return *stack_; }
  // nullopt: there is none.
  Result<std::optional<Found>> find(const std::string& path);
  StackLookup& lookup() { return lookup_; }

 private:
  std::shared_ptr<const LayerStack> stack_;
  StackLookup lookup_;
  std::map<std::string, std::optional<Found>> known_;
};

}  // namespace deltabox
