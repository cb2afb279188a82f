// The checkpoints of one sandbox: immutable nodes, each the pair of file state and process state. Pure bookkeeping.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/result.h"
#include "deltacr/image.h"
#include "deltafs/volume.h"

namespace deltabox {

struct PauseParts {
  double freeze_us = 0;
  double describe_us = 0;
  double scan_us = 0;
  double copy_us = 0;
  double switch_us = 0;
  double reopen_us = 0;
  double apply_us = 0;
  double thaw_us = 0;
};

struct Checkpoint {
  std::string id;
  std::string parent;  // empty for a root
  std::string name;
  std::map<std::string, std::string> metadata;
  std::uint64_t created_at_ms = 0;
  bool is_safety = false;
  // The pair.
  std::vector<std::shared_ptr<const LayerStack>> stacks;  // by volume
  std::shared_ptr<const TreeImage> image;
  std::vector<std::vector<KeptFile>> kept_files;  // by volume: what a rollback looks for in the live layer
  // What it cost and covers.
  double pause_us = 0;
  double engine_us = 0;
  PauseParts parts;
  std::uint64_t dirty_pages = 0;
  std::uint64_t parked_pages = 0;  // of these, copied after the pause
  std::uint64_t stored_pages = 0;
  std::uint64_t total_pages = 0;
  std::uint64_t threads = 0;
  std::uint64_t changed_volumes = 0;
  LayerUsage layer_usage;
  std::uint64_t copied_open_file_bytes = 0;
  std::uint64_t copied_ahead_bytes = 0;  // of these: before the pause
  int freeze_attempts = 0;
  std::vector<Notice> warnings;
  std::uint64_t processes = 0;       // that it holds, wherever
  std::uint64_t last_used_ns = 0;    // when it was taken or rolled back to, CLOCK_MONOTONIC; 0: by an earlier engine
  bool pinned = false;               // stays in memory, and is kept whatever the retention says
  bool cold = false;                 // its image is on the disk (images/image_store.h), not here
  std::uint64_t lost_processes = 0;  // of a recovered checkpoint: what it held in memory and no longer has
};

// Which checkpoints are kept; the others go, oldest first. The head always stays.
struct Retention {
  std::uint64_t keep_last = 0;  // 0: all
  bool keep_named = true;
  std::uint64_t max_bytes = 0;  // of the checkpoints' own layers and pages; 0: no bound
  std::uint64_t hot_bytes = 0;  // of pages in memory: beyond it the least recently used go cold; 0: no bound
};

class CheckpointTree {
 public:
  // Fails when the name is taken or malformed. Checked before a checkpoint is taken.
  Result<void> check_name(const std::string& name) const;
  // Gives the checkpoint its id and makes it the head.
  const Checkpoint& commit(Checkpoint checkpoint, std::uint64_t now_ns);
  Result<const Checkpoint*> find(const std::string& id_or_name) const;
  // After the engine's death: what was found on the disk. `damaged`: by kind, the ids that must not be used, and why.
  void restore(std::vector<Checkpoint> checkpoints, std::string head, std::uint64_t next, std::vector<Notice> damaged);
  std::uint64_t next() const { return next_; }
  // Its image is on the disk and goes from memory; and has been read again.
  void cool(const std::string& id);
  void warm(const std::string& id, std::shared_ptr<const TreeImage> image);
  // The checkpoint must exist. Its children become its parent's, and so does the head.
  void remove(const std::string& id);
  std::vector<std::string> expired(const Retention& retention) const;
  void set_head(const std::string& id, std::uint64_t now_ns);
  void pin(const std::string& id, bool pinned);
  // The least recently used that may go cold; null where none may. The head stays, which the live processes are
  // compared with.
  const Checkpoint* least_recently_used(const std::set<std::string>& except) const;
  const std::string& head() const { return head_; }
  const std::vector<std::unique_ptr<Checkpoint>>& all() const { return checkpoints_; }

 private:
  Checkpoint* find_own(const std::string& id) const;

  std::vector<std::unique_ptr<Checkpoint>> checkpoints_;  // in order of creation
  std::string head_;
  std::vector<Notice> damaged_;
  std::uint64_t next_ = 1;
};

}  // namespace deltabox
