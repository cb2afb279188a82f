// Files that come in pieces. Between the pieces nothing is held open, so that checkpoints can seal what is there: each
// piece opens the temporary again, by its name.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <string>

#include "base/result.h"
#include "engine/client.h"

namespace deltabox {

class StagedWrites {
 public:
  explicit StagedWrites(int m1_root) : m1_root_(m1_root) {}

  Result<std::uint64_t> begin(ClientId client, const std::string& path, bool make_parents);
  Result<void> append(ClientId client, std::uint64_t id, int contents_fd);
  Result<void> finish(ClientId client, std::uint64_t id, std::uint32_t mode);
  Result<void> discard(ClientId client, std::uint64_t id);
  void client_left(ClientId client);
  // Temporaries that a checkpoint holds come back with it; a rollback removes them again.
  void checkpoint_taken();
  void rolled_back();

 private:
  struct Write {
    ClientId client = 0;
    std::string path;
    std::string temporary;
    std::uint64_t size_bytes = 0;
    bool is_stale = false;
  };
  using Writes = std::map<std::uint64_t, Write>;
  Result<Writes::iterator> find(ClientId client, std::uint64_t id);
  void remove(const Write& write) const;

  int m1_root_;
  Writes writes_;
  std::deque<Write> in_checkpoints_;
  std::uint64_t next_ = 1;
};

}  // namespace deltabox
