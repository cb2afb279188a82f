// What is kept on disk of the live state and of each checkpoint: one file each, whole or not at all (written beside and
// renamed), with a checksum. docs/checkpoint-format.md describes it.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "base/packed_record.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "records.pb.h"

namespace deltabox {

// Of a checkpoint's id, by which they are in the order of their making.
std::uint64_t number_of(const std::string& id);

class RecordStore {
 public:
  struct Found {
    std::vector<records::Checkpoint> checkpoints;  // by number
    std::vector<Notice> damaged;                   // kind: the checkpoint's id; reason
    std::set<std::string> durable;                 // ids
    std::set<std::string> pinned;                  // ids
  };

  RecordStore() = default;
  static Result<RecordStore> open(int store_fd);

  Result<void> write_state(const records::State& state) const;
  Result<records::State> read_state() const;
  // Keeps the state's record as it is now under a second name, for the next sync: what replaces it may be empty after a
  // crash of the machine (XFS). On any thread.
  Result<void> keep_state_copy() const;
  Result<records::State> read_state_copy() const;
  Result<void> write_checkpoint(const records::Checkpoint& checkpoint) const;
  void remove_checkpoint(const std::string& id) const;
  // Removes what writes and deletions that were cut off have left.
  Result<Found> read_checkpoints() const;
  // After its layers and its record are on the disk. On any thread.
  Result<void> mark_durable(const std::string& id) const;
  // Stays in memory, and is kept. Not synced: a crash of the machine may take it back.
  Result<void> mark_pinned(const std::string& id, bool pinned) const;
  int fd() const { return root_.get(); }

 private:
  Result<void> write(const std::string& path, const std::string& payload) const;
  Result<records::State> read_state_from(const std::string& path) const;

  UniqueFd root_;
};

}  // namespace deltabox
