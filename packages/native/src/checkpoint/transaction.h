// Checkpoint and rollback of the pair: files and processes together, or neither.
//
// checkpoint   stage seals │ freeze → capture → switch changed volumes → rehome → thaw │ commit │ settle
// rollback     stage targets │ freeze → capture (the safety checkpoint) → end newborn → switch → apply → thaw │ settle
//                            └ the pause                                                     ┘
// Everything that can refuse (unsupported state, dead processes, strict) does so before the first change. A checkpoint
// that fails after its switch leaves the sandbox as it was to its tasks: the same files through one more layer. A
// rollback that fails half way can't be completed either way; all tasks are then ended and made again from the image.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/result.h"
#include "budget/shared_budget.h"
#include "checkpoint/checkpoint_tree.h"
#include "checkpoint/durable.h"
#include "checkpoint/next_rollback.h"
#include "checkpoint/open_files.h"
#include "checkpoint/records.h"
#include "checkpoint/recovery.h"
#include "deltacr/capture.h"
#include "deltafs/hand_over.h"
#include "deltafs/store_worker.h"
#include "deltafs/volume.h"
#include "images/image_store.h"
#include "reconcile/apply.h"
#include "reconcile/terminal_io.h"
#include "renames/service.h"
#include "sandbox/namespaces.h"
#include "tracee/freezer.h"

namespace deltabox {

struct CheckpointOptions {
  std::string name;
  std::map<std::string, std::string> metadata;
  bool strict = false;
  bool pinned = false;
  std::function<void()> before_thaw;  // with the volumes switched, while nobody runs
};

struct RollbackOptions {
  bool redo = true;  // keep the state before as a checkpoint
  bool strict = false;
  bool hold = false;  // nobody goes on before SandboxState::thaw
};

struct RollbackOutcome {
  std::string checkpoint;
  std::string safety_checkpoint;
  double pause_us = 0;
  double engine_us = 0;
  PauseParts parts;
  std::uint64_t written_pages = 0;
  std::uint64_t captured_pages = 0;
  std::uint64_t switched_volumes = 0;
  std::uint64_t processes = 0;
  std::vector<InsidePid> ended_processes;
  std::uint64_t ended_threads = 0;
  std::vector<InsidePid> restored_processes;
  std::uint64_t restored_threads = 0;
  std::map<std::uint64_t, HostTid> restored_commands;  // by id: those whose first process was made anew
  std::uint64_t copied_open_file_bytes = 0;  // sealed copies and corrected contents of files that kept their inodes
  std::uint64_t copied_ahead_bytes = 0;      // of these: before the pause
  std::vector<Notice> not_restored;
};

// What the worker fills in; shared with it.
struct MergeJob {
  std::size_t volume = 0;
  LayerStack run;
  LayerStack below;
  std::shared_ptr<const Layer> merged;
  LayerDir into;
  std::atomic<bool> ended{false};
  bool ok = false;  // once ended
};

// A process state on its way to the disk; shared with the worker until it has ended.
struct ImageJob {
  PreparedImage prepared;
  std::atomic<bool> ended{false};
  bool ok = false;  // once ended
};

// What a fork is made from.
struct LentCheckpoint {
  std::string id;
  std::uint64_t last_layer = 0;  // layers with higher ids are not the fork's
  std::uint64_t processes = 0;   // that will live on in it
};

// By volume; none for a volume that is not switched.
using HandOvers = std::vector<std::optional<HandOver>>;

class SandboxState {
 public:
  // `recovering`: the store has what an earlier engine left there.
  static Result<std::unique_ptr<SandboxState>> create(SandboxNamespaces namespaces,
                                                      const std::vector<VolumeSpec>& specs, bool recovering);
  // What a recovery could not bring back.
  const std::vector<std::string>& recovery_warnings() const { return recovery_warnings_; }
  bool is_durable(const std::string& id) const { return durable_->is_durable(id); }

  Result<const Checkpoint*> checkpoint(const CheckpointOptions& options);
  Result<RollbackOutcome> rollback(const std::string& target, const RollbackOptions& options);
  // After a rollback that holds all tasks: they go on. Until then there are no checkpoints and rollbacks: BUSY.
  void thaw();
  bool is_held() const { return held_.has_value(); }
  // Ends them where they stand.
  void end_held();
  // Its children become its parent's; the live state stays as it is.
  Result<void> delete_checkpoint(const std::string& target);
  void set_retention(const Retention& retention) { retention_ = retention; }
  // The processes of every checkpoint go to the disk, behind its back.
  void set_durable_processes(bool durable) { durable_processes_ = durable; }
  // A bound of memory for all sandboxes of a state directory. Called when `woken_fd` is readable.
  void share_budget(std::unique_ptr<SharedBudget> budget) { budget_ = std::move(budget); }
  const SharedBudget* budget() const { return budget_.get(); }
  void budget_changed();
  // A pinned one stays in memory, where it is read back to, and is kept whatever the retention says.
  Result<void> pin(const std::string& target, bool pinned);
  // Reads the checkpoint's processes from the disk where they are there only: COLD_INCOMPATIBLE, DAMAGED.
  Result<void> warm_up(const std::string& target);
  // Puts all on the disk that another engine needs to begin from the checkpoint, and keeps it there.
  Result<LentCheckpoint> lend(const std::string& target);
  bool has_lent() const { return !lent_.empty(); }
  // Work that need not be waited for: detaching parked overlays, staging the next ones, reserving pages. After each
  // reply.
  void settle();
  // More of it, for who rolls back again: once nothing has been asked for a while.
  bool next_rollback_is_due() const;
  void stage_next_rollback();

  // A descriptor that is readable when background work has ended; then finish_background() is due.
  int background_fd() const { return worker_->ended_fd(); }
  void finish_background();
  // Nothing is written to the store behind anybody's back any more; at the end of the sandbox, which this begins.
  void end_background() { worker_->stop(); }
  // Waits until the background work that was begun before has ended, but no longer than that.
  void wait_for_store(int timeout_ms);

  SandboxNamespaces& namespaces() { return namespaces_; }
  const CheckpointTree& tree() const { return tree_; }
  BoundaryPipes& boundary_pipes() { return boundary_pipes_; }
  TerminalTable& terminals() { return terminals_; }
  RunningCommands& running_commands() { return running_commands_; }
  // Whom a rollback asks for streams that lead out.
  void set_boundary_streams(BoundaryStreams streams) { streams_ = std::move(streams); }
  // Whom to give the master ends of commands' terminals that a rollback makes anew.
  void set_terminal_keeper(CommandTerminals keeper) { command_terminals_ = std::move(keeper); }
  // Whom to tell of the commands of an image that another engine wrote.
  void set_command_adopter(std::function<void(const RunningCommands&)> adopt) { adopt_commands_ = std::move(adopt); }
  Freezer& freezer() { return freezer_; }
  renames::Service& renames() { return renames_; }
  // Processes inside, init not counted.
  std::uint64_t live_processes() const;
  std::uint64_t cold_checkpoints() const;
  // Why memory is compared at each checkpoint instead of tracked; empty: it is tracked.
  const std::string& compares_memory_because() const { return registry_.compares_because(); }
  std::uint64_t page_store_bytes() const { return store_.stored_bytes(); }

 private:
  explicit SandboxState(SandboxNamespaces namespaces);
  // What becomes of large deltas of memory (deltacr/parked_copy.h).
  enum class Deltas { kParkLarge, kCopyAll };
  struct CheckpointAttempt {
    Deltas deltas = Deltas::kParkLarge;
    // Large files that are open, found in the pause of the attempt before; by volume.
    std::optional<std::vector<std::vector<KeptFile>>> found_open;
    // Why it failed, where one more can succeed: it broke off, to have these copied first.
    std::vector<std::vector<KeptFile>> wants_copied;
    double earlier_pause_us = 0;  // of the one that broke off
    std::uint64_t call_start_ns = 0;
    // For the want of a parked copy, and nothing but the pages of that is missing.
    bool lost_copy = false;
  };
  std::vector<VolumeView> volume_views(const std::vector<bool>& changed, bool sealing) const;
  std::vector<bool> changed_volumes() const;
  bool seal_is_staged(std::size_t volume) const;
  Result<void> stage_seal(std::size_t volume);
  // Where the next rollback is expected to switch the volume.
  const std::shared_ptr<const LayerStack>& expected_stack(std::size_t volume) const;
  // Switches all volumes that have a hand-over to their staged seals; `sealed` gets the layers, up to the one that
  // failed.
  Result<void> seal_changed(HandOvers& hand_overs, std::vector<std::shared_ptr<const Layer>>& sealed);
  // Before the freeze, of files that will be handed over. By volume. `target`: of a rollback.
  std::vector<CopiesAhead> copy_ahead(const std::vector<std::vector<KeptFile>>& files, const Checkpoint* target) const;
  Result<void> break_off_for_large(const FilesToKeep& files, const std::vector<const StagedOverlay*>& staged,
                                   std::vector<CopiesAhead>& ahead, CheckpointAttempt& attempt) const;
  // Files that tasks hold open for writing or have mapped shared go over to the staged overlays (by volume).
  Result<HandOvers> prepare_hand_overs(const FilesToKeep& files, const std::vector<const StagedOverlay*>& staged,
                                       std::vector<CopiesAhead> ahead);
  // Files of listeners that were bound again on volumes that were switched are no change by the tasks.
  void except_listeners(const TreeImage& image, const std::set<int>& switched);
  Result<void> protect_parked(TreeCapture& capture, const TreeImage& image, std::vector<Notice>& notices);
  Result<void> begin(const std::vector<VolumeSpec>& specs, bool recovering);
  void adopt(Recovered recovered, const std::vector<std::uint64_t>& old_layers);
  Result<void> write_state();
  // The state's record on the disk, and those of checkpoints, tell the live state already.
  bool state_is_recorded() const;
  // Puts the checkpoint into the tree and onto the disk, or neither.
  Result<const Checkpoint*> commit(Checkpoint record);
  void forget(const std::string& id);
  void remove_unused_layers();
  std::vector<std::string> volume_names() const;
  bool is_being_written(const std::string& id) const;
  bool wants_image(const Checkpoint& checkpoint) const;
  void start_image(const Checkpoint& checkpoint);
  void start_images();
  // Soon, and behind its back.
  void make_durable(const Checkpoint& checkpoint);
  // Takes the least recently used checkpoints out of memory that are too many for it.
  void cool_down();
  // Tells the others what is here; `oldest` is what may go.
  bool is_too_much(const Checkpoint* oldest);
  void finish_images();
  Result<void> write_image_now(const Checkpoint& checkpoint);
  void start_merge();
  Result<void> switch_volume(std::size_t volume, StagedOverlay staged);
  Checkpoint make_record(CaptureResult captured) const;
  Result<void> apply_rollback(Freeze& freeze, TreeCapture& capture, const TreeImage& live, const Checkpoint& target,
                              std::vector<std::optional<StagedOverlay>>& staged, HandOvers& hand_overs,
                              RollbackOutcome& outcome);
  Result<const Checkpoint*> try_checkpoint(const CheckpointOptions& options, CheckpointAttempt& attempt);
  // How a rollback ended that did not succeed.
  struct Attempt {
    bool ended_all = false;  // half way
    std::string failure;
    std::string safety_checkpoint;
    std::vector<Notice> uncapturable;  // processes that are in the way; nothing was changed
  };
  // Where a rollback fails half way, all processes are ended and made again from the image.
  Result<RollbackOutcome> try_beyond_failure(const std::string& target, const RollbackOptions& options,
                                             Attempt& attempt);
  Result<RollbackOutcome> try_rollback(const std::string& target, const RollbackOptions& options, Attempt& attempt);
  void end_uncapturable(const std::vector<Notice>& processes) const;
  Result<void> check_not_held() const;
  Error end_everything(Freeze& freeze, TreeCapture& capture, Error cause, const std::string& call);

  SandboxNamespaces namespaces_;
  LayerStore layers_;
  std::vector<Volume> volumes_;
  std::vector<std::optional<StagedOverlay>> standby_;  // by volume: what the next seal switches to
  NextRollback next_rollback_;
  // Staged and overtaken: to unmount one takes longer than a switch, so it waits for the end of the pause.
  std::vector<StagedOverlay> unused_;
  std::vector<UniqueFd> parked_;
  std::vector<std::set<std::uint64_t>> recorded_layers_;  // by volume: writable and staged ones of the state's record
  PageStore store_;
  ProcessRegistry registry_;
  DescriptorReader descriptors_;
  StoredFiles stored_files_;
  DeletedFileReader deleted_files_;
  SharedMemoryReader shared_memory_;
  SocketReader sockets_;
  PastOverlays past_overlays_;
  Freezer freezer_;
  std::optional<Freeze> held_;
  renames::Service renames_;
  BoundaryPipes boundary_pipes_;
  TerminalTable terminals_;
  CommandTerminals command_terminals_;
  RunningCommands running_commands_;
  BoundaryStreams streams_;
  std::function<void(const RunningCommands&)> adopt_commands_;
  ImageStore images_;
  std::deque<std::shared_ptr<ImageJob>> image_jobs_;  // in the order of their writing
  std::set<std::string> unwritable_images_;           // checkpoints
  bool durable_processes_ = false;
  std::vector<std::shared_ptr<const Layer>> lent_;
  CheckpointTree tree_;
  RecordStore records_;
  std::string boot_id_;
  std::vector<std::string> recovery_warnings_;
  std::unique_ptr<DurableWriter> durable_;  // before the worker, on which its jobs run: the worker goes first
  std::unique_ptr<StoreWorker> worker_;
  std::shared_ptr<MergeJob> merge_job_;  // at most one at a time
  bool merge_failed_ = false;
  Retention retention_;
  std::unique_ptr<SharedBudget> budget_;
};

}  // namespace deltabox
