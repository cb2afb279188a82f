#include "checkpoint/transaction.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <set>
#include <utility>

#include "base/clock.h"
#include "base/fault.h"
#include "reconcile/apply.h"
#include "reconcile/descriptor_io.h"
#include "reconcile/descriptor_room.h"
#include "reconcile/job_control.h"
#include "reconcile/plan.h"
#include "reconcile/preview.h"
#include "reconcile/private_mappings.h"
#include "restore/restore.h"
#include "sys/files.h"
#include "sys/mounts.h"
#include "tracee/proc_files.h"

namespace deltabox {

namespace {

double elapsed_us(std::uint64_t since_ns) { return static_cast<double>(monotonic_ns() - since_ns) / 1000.0; }

Result<LayerUsage> measure_layers(const std::vector<std::shared_ptr<const Layer>>& layers) {
  LayerUsage total;
  for (const auto& layer : layers) {
    const LayerUsage usage = TRY(measure_layer(*layer));
    total.files += usage.files;
    total.bytes += usage.bytes;
  }
  return total;
}

// Names the first; all are in its details.
Error strict_error(const char* what, std::vector<Notice> details) {
  std::string message = std::string(what) + ", and strict was asked for";
  if (!details.empty()) {
    const Notice& first = details.front();
    message += ": " + first.kind + (first.pid != 0 ? " of pid " + std::to_string(first.pid) : "") + ", " + first.reason;
    if (details.size() > 1) message += " (and " + std::to_string(details.size() - 1) + " more)";
  }
  Error error = make_error(Code::kStrict, message, "Read the details; call again without strict to accept them.");
  error.details = std::move(details);
  return error;
}

Error dead_error(const std::vector<Notice>& dead) {
  std::string pids;
  for (const Notice& notice : dead) pids += (pids.empty() ? "" : ", ") + std::to_string(notice.pid);
  Error error =
      make_error(Code::kDeadProcess, "processes of the checkpoint can't be made again: pid " + pids,
                 "Their parents left the session in which they had made them, so nobody can make them as they "
                 "were: choose another checkpoint. Nothing was changed.");
  error.details = dead;
  return error;
}

// Of a record whose image has its pages.
void count_pages(Checkpoint& record, std::uint64_t stored_pages) {
  record.stored_pages = stored_pages;
  for (const ProcessImage& process : record.image->processes) record.total_pages += process.pages.size();
}

}  // namespace

SandboxState::SandboxState(SandboxNamespaces namespaces)
    : namespaces_(std::move(namespaces)), freezer_(namespaces_.host_proc.get(), namespaces_.init) {}

Result<std::unique_ptr<SandboxState>> SandboxState::create(SandboxNamespaces namespaces,
                                                           const std::vector<VolumeSpec>& specs, bool recovering) {
  std::unique_ptr<SandboxState> state(new SandboxState(std::move(namespaces)));
  TRY(state->begin(specs, recovering));
  return state;
}

std::vector<bool> SandboxState::changed_volumes() const {
  std::vector<bool> changed;
  for (const Volume& volume : volumes_) changed.push_back(volume.changed());
  return changed;
}

std::vector<VolumeView> SandboxState::volume_views(const std::vector<bool>& changed, bool sealing) const {
  std::vector<VolumeView> views;
  for (std::size_t index = 0; index < volumes_.size(); ++index) {
    struct stat info {};
    ::fstat(volumes_[index].mount_fd(), &info);
    views.push_back({volumes_[index].mount_id(), info.st_dev, volumes_[index].serial(), volumes_[index].spec().path,
                     changed[index], sealing && changed[index], volumes_[index].writable_layer()->dir.get(),
                     volumes_[index].mount_fd()});
  }
  return views;
}

// A staged seal is of use only while the live overlay is the one that it was made for.
bool SandboxState::seal_is_staged(std::size_t volume) const {
  const std::optional<StagedOverlay>& standby = standby_[volume];
  return standby && standby->stack->back() == volumes_[volume].writable_layer();
}

// In M0.
Result<void> SandboxState::stage_seal(std::size_t volume) {
  if (seal_is_staged(volume)) return {};
  standby_[volume] = TRY(volumes_[volume].stage_seal(layers_));
  return {};
}

Result<void> SandboxState::switch_volume(std::size_t volume, StagedOverlay staged) {
  parked_.push_back(TRY(volumes_[volume].switch_to(std::move(staged), namespaces_.m1_root.get(),
                                                   namespaces_.parking.get(), std::to_string(volume))));
  past_overlays_.forget(TRY(sys::stat_fd(volumes_[volume].mount_fd())).st_dev);
  return {};
}

Checkpoint SandboxState::make_record(CaptureResult captured) const {
  Checkpoint record;
  record.created_at_ms = unix_time_ms();
  record.dirty_pages = captured.dirty_pages;
  record.parked_pages = captured.parked_pages;
  record.processes = captured.image->processes.size();
  record.threads = captured.threads;
  record.warnings = std::move(captured.warnings);
  record.parts.describe_us = captured.times.describe_us;
  record.parts.scan_us = captured.times.scan_us;
  record.parts.copy_us = captured.times.copy_us;
  record.image = std::move(captured.image);
  return record;
}

Result<const Checkpoint*> SandboxState::checkpoint(const CheckpointOptions& options) {
  bool lost_copy = false;
  Result<const Checkpoint*> taken = try_checkpoint(options, Deltas::kParkLarge, lost_copy);
  if (!lost_copy) return taken;
  // Somebody ended the process that stood still for another: memory ran out, or the sandbox killed all it has.
  return try_checkpoint(options, Deltas::kCopyAll, lost_copy);
}

Result<const Checkpoint*> SandboxState::try_checkpoint(const CheckpointOptions& options, Deltas deltas,
                                                       bool& lost_copy) {
  const std::uint64_t call_start_ns = monotonic_ns();
  TRY(tree_.check_name(options.name));
  TRY(namespaces_.enter_m0());
  for (std::size_t index = 0; index < volumes_.size(); ++index) {
    if (volumes_[index].changed()) TRY(stage_seal(index));
  }
  TRY(namespaces_.enter_m1());
  const std::vector<bool> written = changed_volumes();
  if (std::find(written.begin(), written.end(), true) != written.end()) descriptors_.let_watchers_read(registry_);

  fault_point(FaultPoint::kBeforeFreeze);
  renames::Pause no_renames = TRY(renames_.pause());
  Freeze freeze = TRY(freezer_.freeze_all());
  fault_point(FaultPoint::kAfterFreeze);
  const double freeze_us = elapsed_us(freeze.started_ns());
  const std::uint64_t pause_start_ns = freeze.started_ns();
  TreeCapture capture(namespaces_.host_proc.get(), freeze, registry_, store_, descriptors_, deleted_files_,
                      shared_memory_, sockets_, past_overlays_);
  if (deltas == Deltas::kParkLarge) capture.park_large_deltas();
  const std::vector<bool> changed = changed_volumes();
  const std::vector<VolumeView> views = volume_views(changed, true);
  CaptureResult captured = TRY(capture.run(views, boundary_pipes_, terminals_));
  fault_point(FaultPoint::kAfterCapture);
  if (options.strict && !captured.warnings.empty()) {
    return strict_error("the checkpoint would not capture everything", std::move(captured.warnings));
  }
  captured.image->commands = running_commands_;
  const std::shared_ptr<const TreeImage> image = captured.image;
  Checkpoint record = make_record(std::move(captured));
  record.parts.freeze_us = freeze_us;
  record.freeze_attempts = freeze.attempts();
  Stopwatch watch;
  // All that may fail for want of space or memory comes before the first switch.
  for (std::size_t index = 0; index < volumes_.size(); ++index) {
    if (!changed[index] || seal_is_staged(index)) continue;
    // It was first written between the staging and the freeze.
    TRY(namespaces_.enter_m0());
    TRY(stage_seal(index));
  }
  TRY(namespaces_.enter_m1());
  std::vector<const StagedOverlay*> staged(volumes_.size(), nullptr);
  std::set<int> switched;
  for (std::size_t index = 0; index < volumes_.size(); ++index) {
    if (!changed[index]) continue;
    staged[index] = &*standby_[index];
    switched.insert(static_cast<int>(index));
  }
  TRY(check_descriptor_room(*image, switched));
  HandOvers hand_overs = TRY(prepare_hand_overs(files_to_keep(*image, views), staged));
  for (const auto& hand_over : hand_overs) record.copied_open_file_bytes += hand_over ? hand_over->copied_bytes() : 0;
  std::vector<std::shared_ptr<const Layer>> sealed;
  Result<void> outcome = seal_changed(hand_overs, sealed);
  record.parts.switch_us = watch.lap_us();
  fault_point(FaultPoint::kAfterSwitch);
  record.changed_volumes = sealed.size();
  if (outcome.ok() && !sealed.empty()) {
    Result<std::vector<Notice>> failures =
        rehome(capture, *image, switched, namespaces_.m1_root.get(), namespaces_.self_fd_dir.get());
    if (failures.ok()) {
      record.warnings.insert(record.warnings.end(), failures.value().begin(), failures.value().end());
      except_listeners(*image, switched);
    } else {
      outcome = failures.release_error();
    }
  }
  if (outcome.ok()) outcome = protect_parked(capture, *image, record.warnings);
  record.parts.reopen_us = watch.lap_us();
  // A task that still has a way to the sealed layer must not run on.
  if (!outcome.ok()) return end_everything(freeze, capture, outcome.release_error(), "the checkpoint");
  if (options.before_thaw) options.before_thaw();
  fault_point(FaultPoint::kBeforeThaw);
  TRY(capture.release());
  freeze.thaw();
  no_renames.end();
  record.parts.thaw_us = watch.lap_us();
  record.pause_us = elapsed_us(pause_start_ns);

  const Result<std::uint64_t> stored_pages = capture.enter_pages();
  lost_copy = !stored_pages.ok() && record.parked_pages > 0;
  if (!stored_pages.ok()) return stored_pages.error();
  count_pages(record, stored_pages.value());
  record.name = options.name;
  record.metadata = options.metadata;
  for (const Volume& volume : volumes_) {
    record.stacks.push_back(volume.live_stack());
    record.kept_files.push_back(volume.kept());
  }
  record.layer_usage = TRY(measure_layers(sealed));
  fault_point(FaultPoint::kAfterThaw);
  record.engine_us = elapsed_us(call_start_ns);
  const Checkpoint* checkpoint = TRY(commit(std::move(record)));
  // Without it a crash brings back the state before, which is whole as well; settle() tries again.
  (void)write_state();
  return checkpoint;
}

// A task may still hold a removed directory or a removed file open, or run a program that lies on a parked overlay. It
// may read there; a read-only mount refuses everything else, and refuses to become one while a descriptor for writing
// is left.
Result<void> SandboxState::protect_parked(TreeCapture& capture, const TreeImage& image, std::vector<Notice>& notices) {
  const auto protect = [&]() -> Result<void> {
    for (const UniqueFd& parked : parked_) {
      TRY(sys::set_mount_attributes(parked.get(), MOUNT_ATTR_RDONLY, false));
    }
    return {};
  };
  Result<void> outcome = protect();
  if (outcome.ok() || outcome.error().os_errno != EBUSY) return outcome;
  std::set<std::uint64_t> devices;
  for (const UniqueFd& parked : parked_) devices.insert(TRY(sys::stat_fd(parked.get())).st_dev);
  std::vector<Notice> moved = TRY(move_private_mappings(capture, image, devices, namespaces_.m1_root.get()));
  notices.insert(notices.end(), moved.begin(), moved.end());
  return protect();
}

void SandboxState::except_listeners(const TreeImage& image, const std::set<int>& switched) {
  std::vector<std::vector<std::string>> paths(volumes_.size());
  for (const Description& description : image.descriptions) {
    if (!description.socket || !switched.contains(description.socket->node.volume)) continue;
    const auto index = static_cast<std::size_t>(description.socket->node.volume);
    const std::size_t root = volumes_[index].spec().path.size() + 1;
    if (description.socket->node.path.size() > root) paths[index].push_back(description.socket->node.path.substr(root));
  }
  for (std::size_t index = 0; index < volumes_.size(); ++index) {
    if (!paths[index].empty()) volumes_[index].except_from_changes(paths[index]);
  }
}

Result<HandOvers> SandboxState::prepare_hand_overs(const FilesToKeep& files,
                                                   const std::vector<const StagedOverlay*>& staged) {
  HandOvers hand_overs(volumes_.size());
  for (std::size_t index = 0; index < volumes_.size(); ++index) {
    if (staged[index] == nullptr) continue;
    hand_overs[index].emplace(TRY(HandOver::prepare(volumes_[index], *staged[index], files[index])));
  }
  return hand_overs;
}

Result<void> SandboxState::seal_changed(HandOvers& hand_overs, std::vector<std::shared_ptr<const Layer>>& sealed) {
  for (std::size_t index = 0; index < volumes_.size(); ++index) {
    if (!hand_overs[index]) continue;
    fault_point(FaultPoint::kBeforeHandOver);
    TRY(hand_overs[index]->commit());
    fault_point(FaultPoint::kAfterHandOver);
    sealed.push_back(volumes_[index].writable_layer());
    StagedOverlay staged = std::move(*standby_[index]);
    standby_[index].reset();
    staged.kept = hand_overs[index]->kept();
    staged.mark = TRY(hand_overs[index]->mark());
    TRY(switch_volume(index, std::move(staged)));
    fault_point(FaultPoint::kAfterOneSwitch);
  }
  return {};
}

Error SandboxState::end_everything(Freeze& freeze, TreeCapture& capture, Error cause, const std::string& call) {
  capture.abandon();
  freeze.end_all();
  Error error = std::move(cause);
  error.message = call + " failed half way (" + error.describe() +
                  "); all processes of the sandbox were ended, so that none runs in a mixed state";
  error.next_step = "Roll back to a checkpoint without processes, or create a new sandbox; please report this.";
  return error;
}

Result<void> SandboxState::apply_rollback(Freeze& freeze, TreeCapture& capture, const TreeImage& live,
                                          const Checkpoint& target, std::vector<std::optional<StagedOverlay>>& staged,
                                          HandOvers& hand_overs, RollbackOutcome& outcome) {
  TerminalRoom terminals(namespaces_.m1_root.get(), capture, terminals_, command_terminals_, live, *target.image);
  ApplyContext context{namespaces_.host_proc.get(),
                       namespaces_.self_fd_dir.get(),
                       namespaces_.m1_root.get(),
                       &freeze,
                       &capture,
                       &store_,
                       &shared_memory_,
                       &streams_,
                       &terminals,
                       [this](int id) { return namespaces_.init_client.choose_next_segment(id); }};
  ApplyOutcome applied;
  Stopwatch watch;
  const TreePlan plan = plan_tree(live, *target.image);
  TRY(end_newborn(context, plan, live, *target.image, applied));
  terminals.make(applied.not_restored);
  JobControl jobs(freeze, registry_, *target.image);
  jobs.continue_running();
  const double end_us = watch.lap_us();
  std::set<int> switched;
  for (std::size_t index = 0; index < volumes_.size(); ++index) {
    if (!staged[index]) continue;
    TRY(hand_overs[index]->commit());
    staged[index]->kept = hand_overs[index]->kept();
    TRY(switch_volume(index, std::move(*staged[index])));
    fault_point(FaultPoint::kAfterOneSwitch);
    TRY(hand_overs[index]->correct());
    fault_point(FaultPoint::kFilesCorrected);
    volumes_[index].set_mark(TRY(hand_overs[index]->mark()));
    outcome.copied_open_file_bytes += hand_overs[index]->copied_bytes();
    standby_[index].reset();
    switched.insert(static_cast<int>(index));
  }
  outcome.parts.switch_us = watch.lap_us();
  fault_point(FaultPoint::kAfterSwitch);
  if (fault_fails(FaultPoint::kAfterSwitch)) return make_error(Code::kInternal, "it was told to fail");
  if (plan.makes_anything()) {
    const TreeImage now = TRY(bring_back(context, namespaces_.init_client, plan, live, *target.image, applied));
    TRY(apply_target(context, now, *target.image, switched, applied));
  } else {
    TRY(apply_target(context, live, *target.image, switched, applied));
  }
  except_listeners(*target.image, switched);
  TRY(protect_parked(capture, *target.image, applied.not_restored));
  outcome.parts.apply_us = end_us + watch.lap_us();
  freeze.drop_held_signals();
  TRY(capture.release());
  TRY(jobs.stop_stopped());
  outcome.switched_volumes = switched.size();
  outcome.written_pages = applied.written_pages;
  for (const InsidePid pid : applied.ended_processes) {
    if (target.image->find_by_pid(pid) == nullptr) outcome.ended_processes.push_back(pid);
  }
  for (const auto& [id, command] : target.image->commands) {
    const InsidePid pid = command->pid;
    const ProcessImage* leader = target.image->find_by_pid(pid);
    const LiveProcess* live_leader = leader != nullptr ? registry_.find(leader->incarnation) : nullptr;
    const bool made = std::find(applied.restored_processes.begin(), applied.restored_processes.end(), pid) !=
                      applied.restored_processes.end();
    if (made && live_leader != nullptr) outcome.restored_commands[id] = live_leader->pid;
  }
  outcome.ended_threads = applied.ended_threads;
  outcome.restored_processes = std::move(applied.restored_processes);
  outcome.restored_threads = applied.restored_threads;
  outcome.not_restored = std::move(applied.not_restored);
  return {};
}

Result<RollbackOutcome> SandboxState::rollback(const std::string& target, const RollbackOptions& options) {
  Attempt first;
  Result<RollbackOutcome> outcome = try_rollback(target, options, first);
  if (outcome.ok() || !first.ended_all) return outcome;
  // Nobody is left to be in a mixed state: all that the checkpoint has is made again from its image.
  Attempt second;
  Result<RollbackOutcome> again = try_rollback(target, {false, false}, second);
  if (!again.ok()) {
    Error error = outcome.release_error();
    error.message += "; making them again failed, too: " + again.error().describe();
    return error;
  }
  again.value().safety_checkpoint = first.safety_checkpoint;
  again.value().not_restored.push_back(
      {0, "process", "the rollback failed half way (" + first.failure + "): all processes were ended and made again"});
  if (options.strict) {
    return strict_error("the rollback was carried out but did not restore everything", again.value().not_restored);
  }
  return again;
}

Result<RollbackOutcome> SandboxState::try_rollback(const std::string& target_name, const RollbackOptions& options,
                                                   Attempt& attempt) {
  const std::uint64_t call_start_ns = monotonic_ns();
  const Checkpoint& target = *TRY(tree_.find(target_name));
  RollbackOutcome outcome;
  const Result<void> warmed = warm_up(target.id);
  if (!warmed.ok() && options.strict) return warmed.error();
  outcome.checkpoint = target.id;
  std::vector<std::optional<StagedOverlay>> staged(volumes_.size());
  const auto stage_needed = [&]() -> Result<void> {
    TRY(namespaces_.enter_m0());
    for (std::size_t index = 0; index < volumes_.size(); ++index) {
      const bool differs = *volumes_[index].live_stack() != *target.stacks[index] || volumes_[index].changed();
      if (differs && !staged[index]) staged[index] = TRY(volumes_[index].stage(layers_, target.stacks[index]));
    }
    return namespaces_.enter_m1();
  };
  TRY(stage_needed());

  fault_point(FaultPoint::kBeforeFreeze);
  renames::Pause no_renames = TRY(renames_.pause());
  Freeze freeze = TRY(freezer_.freeze_all());
  fault_point(FaultPoint::kAfterFreeze);
  const std::uint64_t pause_start_ns = freeze.started_ns();
  outcome.parts.freeze_us = elapsed_us(pause_start_ns);
  TRY(stage_needed());  // what was first written since; usually nothing
  TreeCapture capture(namespaces_.host_proc.get(), freeze, registry_, store_, descriptors_, deleted_files_,
                      shared_memory_, sockets_, past_overlays_);
  const std::vector<bool> changed = changed_volumes();
  // Nothing is refused here for the sake of the layers that are left: what a newborn process holds there goes with it.
  const std::vector<VolumeView> views = volume_views(changed, false);
  std::set<int> switched;
  std::vector<const StagedOverlay*> entered(volumes_.size(), nullptr);
  for (std::size_t index = 0; index < staged.size(); ++index) {
    if (!staged[index]) continue;
    entered[index] = &*staged[index];
    switched.insert(static_cast<int>(index));
  }
  CaptureResult captured = TRY(capture.run(views, boundary_pipes_, terminals_));
  fault_point(FaultPoint::kAfterCapture);
  captured.image->commands = running_commands_;
  const std::uint64_t stored_pages = TRY(capture.enter_pages());
  const std::shared_ptr<const TreeImage> live = captured.image;
  const TreePlan tree_plan = plan_tree(*live, *target.image);
  if (!tree_plan.dead.empty()) return dead_error(tree_plan.dead);
  if (options.strict) {
    std::vector<Notice> lost = preview_not_restored(*live, *target.image, switched);
    if (!lost.empty()) return strict_error("the rollback would not restore everything", std::move(lost));
  }
  outcome.captured_pages = captured.dirty_pages;
  Checkpoint safety = make_record(std::move(captured));
  count_pages(safety, stored_pages);
  safety.is_safety = true;
  std::vector<std::shared_ptr<const Layer>> sealed_by_safety;
  for (std::size_t index = 0; index < volumes_.size(); ++index) {
    auto stack = volumes_[index].live_stack();
    if (changed[index]) {
      auto sealed = std::make_shared<LayerStack>(*stack);
      sealed->push_back(volumes_[index].writable_layer());
      sealed_by_safety.push_back(volumes_[index].writable_layer());
      stack = std::move(sealed);
      ++safety.changed_volumes;
    }
    safety.stacks.push_back(std::move(stack));
  }
  outcome.parts.describe_us = safety.parts.describe_us;
  outcome.parts.scan_us = safety.parts.scan_us;
  outcome.parts.copy_us = safety.parts.copy_us;

  HandOvers hand_overs =
      TRY(prepare_hand_overs(files_to_take_over(*live, *target.image, target.kept_files, views), entered));
  const FilesToKeep open_now = files_to_keep(*live, views);
  for (std::size_t index = 0; index < volumes_.size(); ++index) {
    safety.kept_files.push_back(TRY(identify_files(volumes_[index], open_now[index])));
  }
  Result<void> applied = apply_rollback(freeze, capture, *live, target, staged, hand_overs, outcome);
  if (!applied.ok()) {
    attempt.ended_all = true;
    attempt.failure = applied.error().describe();
    if (options.redo) {
      const Result<const Checkpoint*> committed = commit(std::move(safety));
      if (committed.ok()) attempt.safety_checkpoint = committed.value()->id;
    }
    return end_everything(freeze, capture, applied.release_error(), "the rollback to " + target.id);
  }
  Stopwatch watch;
  fault_point(FaultPoint::kBeforeThaw);
  freeze.thaw();
  no_renames.end();
  fault_point(FaultPoint::kAfterThaw);
  outcome.parts.thaw_us = watch.lap_us();
  outcome.pause_us = elapsed_us(pause_start_ns);
  outcome.processes = target.image->processes.size();
  if (options.redo) {
    safety.freeze_attempts = freeze.attempts();
    safety.pause_us = outcome.pause_us;
    safety.parts = outcome.parts;
    safety.layer_usage = TRY(measure_layers(sealed_by_safety));
    // Without space for its record the state before is given up, as with redo off, and not the rollback.
    const Result<const Checkpoint*> committed = commit(std::move(safety));
    if (committed.ok()) outcome.safety_checkpoint = committed.value()->id;
  }
  tree_.set_head(target.id);
  if (target.lost_processes > 0) {
    outcome.not_restored.push_back(
        {0, "process",
         std::to_string(target.lost_processes) + " processes of the checkpoint ended with an earlier engine"});
  }
  if (!warmed.ok()) {
    outcome.not_restored.push_back({0, "process",
                                    std::to_string(target.processes) +
                                        " processes of the checkpoint: " + std::string(code_name(warmed.error().code)) +
                                        ", " + warmed.error().describe()});
  }
  (void)write_state();
  outcome.engine_us = elapsed_us(call_start_ns);
  if (options.strict && !outcome.not_restored.empty()) {
    return strict_error("the rollback was carried out but did not restore everything", outcome.not_restored);
  }
  return outcome;
}

std::uint64_t SandboxState::live_processes() const {
  return descendants_of(namespaces_.host_proc.get(), namespaces_.init).size();
}

}  // namespace deltabox
