// The rollback of transaction.h.
#include <algorithm>
#include <csignal>
#include <set>
#include <utility>

#include "base/clock.h"
#include "base/fault.h"
#include "checkpoint/accounts.h"
#include "checkpoint/transaction.h"
#include "reconcile/apply.h"
#include "reconcile/job_control.h"
#include "reconcile/plan.h"
#include "reconcile/preview.h"
#include "restore/restore.h"
#include "tracee/proc_files.h"

namespace deltabox {

namespace {

constexpr std::size_t kMostUncapturable = 256;  // a sandbox that makes new ones faster than they are ended

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

void tell_of_ended(const std::vector<Notice>& processes, const RollbackOptions& options, RollbackOutcome& outcome) {
  for (const Notice& process : processes) {
    const InsidePid pid{process.pid};
    const std::vector<InsidePid>& restored = outcome.restored_processes;
    if (std::find(restored.begin(), restored.end(), pid) == restored.end()) outcome.ended_processes.push_back(pid);
    if (options.redo) outcome.not_restored.push_back(process);
  }
}

}  // namespace

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
    outcome.copied_ahead_bytes += hand_overs[index]->copied_ahead_bytes();
    if (standby_[index]) unused_.push_back(std::move(*standby_[index]));
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

// Of what follows the checkpoint nothing may keep the sandbox from it: a process that can't be captured is ended, as
// all are that the checkpoint doesn't have. One that it has is made again.
Result<RollbackOutcome> SandboxState::rollback(const std::string& target, const RollbackOptions& options) {
  std::vector<Notice> ended;
  for (;;) {
    Attempt attempt;
    Result<RollbackOutcome> outcome = try_beyond_failure(target, options, attempt);
    const bool needs_it = options.strict && options.redo;  // the state as it is, whole
    if (outcome.ok() || attempt.uncapturable.empty() || needs_it || ended.size() >= kMostUncapturable) {
      if (outcome.ok()) tell_of_ended(ended, options, outcome.value());
      return outcome;
    }
    end_uncapturable(attempt.uncapturable);
    for (const Notice& process : attempt.uncapturable) {
      ended.push_back(
          {process.pid, process.kind,
           "it could not be captured (" + process.reason + ") and was ended: the safety checkpoint lacks it"});
    }
  }
}

void SandboxState::end_uncapturable(const std::vector<Notice>& processes) const {
  for (const HostTid task : descendants_of(namespaces_.host_proc.get(), namespaces_.init)) {
    const Result<TaskStatus> status = task_status(namespaces_.host_proc.get(), task);
    if (!status.ok()) continue;
    const int inside = status.value().inside.value;
    const bool is_one =
        std::any_of(processes.begin(), processes.end(), [&](const Notice& process) { return process.pid == inside; });
    if (is_one) ::kill(task.value, SIGKILL);
  }
}

Result<RollbackOutcome> SandboxState::try_beyond_failure(const std::string& target, const RollbackOptions& options,
                                                         Attempt& first) {
  Result<RollbackOutcome> outcome = try_rollback(target, options, first);
  if (outcome.ok() || !first.ended_all) return outcome;
  // Nobody is left to be in a mixed state: all that the checkpoint has is made again from its image.
  Attempt second;
  Result<RollbackOutcome> again = try_rollback(target, {false, false, options.hold}, second);
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
  TRY(check_not_held());
  const Checkpoint& target = *TRY(tree_.find(target_name));
  const bool was_head = tree_.head() == target.id;
  RollbackOutcome outcome;
  const Result<void> warmed = warm_up(target.id);
  if (!warmed.ok() && options.strict) return warmed.error();
  outcome.checkpoint = target.id;
  std::vector<std::optional<StagedOverlay>> staged(volumes_.size());
  const auto stage_needed = [&](const std::vector<bool>& changed) -> Result<void> {
    bool entered = false;
    for (std::size_t index = 0; index < volumes_.size(); ++index) {
      const bool differs = changed[index] || *volumes_[index].live_stack() != *target.stacks[index];
      if (!differs || staged[index]) continue;
      staged[index] = next_rollback_.take(index, *target.stacks[index]);
      if (staged[index]) continue;
      if (!std::exchange(entered, true)) TRY(namespaces_.enter_m0());
      staged[index] = TRY(volumes_[index].stage(layers_, target.stacks[index]));
    }
    return entered ? namespaces_.enter_m1() : Result<void>();
  };
  TRY(stage_needed(changed_volumes()));
  std::vector<std::vector<KeptFile>> taken_over(volumes_.size());
  for (std::size_t index = 0; index < target.kept_files.size(); ++index) {
    if (staged[index]) taken_over[index] = target.kept_files[index];
  }
  std::vector<CopiesAhead> ahead = copy_ahead(taken_over, &target);

  fault_point(FaultPoint::kBeforeFreeze);
  renames::Pause no_renames = TRY(renames_.pause());
  const auto note_uncapturable = [&](const Error& error) {
    if (error.code == Code::kUnsupported) attempt.uncapturable = error.details;
  };
  Result<Freeze> frozen = freezer_.freeze_all();
  if (!frozen.ok()) note_uncapturable(frozen.error());
  Freeze freeze = TRY(std::move(frozen));
  fault_point(FaultPoint::kAfterFreeze);
  const std::uint64_t pause_start_ns = freeze.started_ns();
  outcome.parts.freeze_us = elapsed_us(pause_start_ns);
  const std::vector<bool> changed = changed_volumes();
  TRY(stage_needed(changed));  // what was first written since; usually nothing
  TreeCapture capture(namespaces_.host_proc.get(), freeze, registry_, store_, descriptors_, deleted_files_,
                      shared_memory_, sockets_, past_overlays_);
  // Nothing is refused here for the sake of the layers that are left: what a newborn process holds there goes with it.
  const std::vector<VolumeView> views = volume_views(changed, false);
  std::set<int> switched;
  std::vector<const StagedOverlay*> entered(volumes_.size(), nullptr);
  for (std::size_t index = 0; index < staged.size(); ++index) {
    if (!staged[index]) continue;
    entered[index] = &*staged[index];
    switched.insert(static_cast<int>(index));
  }
  Result<CaptureResult> run = capture.run(views, boundary_pipes_, terminals_);
  if (!run.ok()) note_uncapturable(run.error());
  CaptureResult captured = TRY(std::move(run));
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

  Stopwatch preparing;
  if (options.redo) {
    const FilesToKeep open_now = files_to_keep(*live, views);
    for (std::size_t index = 0; index < volumes_.size(); ++index) {
      safety.kept_files.push_back(TRY(identify_files(volumes_[index], open_now[index])));
    }
  }
  HandOvers hand_overs = TRY(prepare_hand_overs(files_to_take_over(*live, *target.image, target.kept_files, views),
                                                entered, std::move(ahead)));
  const double prepare_us = preparing.lap_us();
  Result<void> applied = apply_rollback(freeze, capture, *live, target, staged, hand_overs, outcome);
  outcome.parts.switch_us += prepare_us;
  if (!applied.ok()) {
    attempt.ended_all = true;
    attempt.failure = applied.error().describe();
    if (options.redo) {
      const Result<const Checkpoint*> committed = commit(std::move(safety));
      if (committed.ok()) attempt.safety_checkpoint = committed.value()->id;
    }
    return end_everything(freeze, capture, applied.release_error(), "the rollback to " + target.id);
  }
  const int attempts = freeze.attempts();
  Stopwatch watch;
  fault_point(FaultPoint::kBeforeThaw);
  if (options.hold) {
    held_.emplace(std::move(freeze));
  } else {
    freeze.thaw();
  }
  no_renames.end();
  fault_point(FaultPoint::kAfterThaw);
  outcome.parts.thaw_us = watch.lap_us();
  outcome.pause_us = elapsed_us(pause_start_ns);
  outcome.processes = target.image->processes.size();
  if (options.redo) {
    safety.freeze_attempts = attempts;
    safety.pause_us = outcome.pause_us;
    safety.parts = outcome.parts;
    safety.layer_usage = TRY(measure_layers(sealed_by_safety));
    // Without space for its record the state before is given up, as with redo off, and not the rollback.
    const Result<const Checkpoint*> committed = commit(std::move(safety));
    if (committed.ok()) outcome.safety_checkpoint = committed.value()->id;
  }
  next_rollback_.went_to(target.id, was_head);
  tree_.set_head(target.id, monotonic_ns());
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

Result<void> SandboxState::check_not_held() const {
  if (!held_) return {};
  return make_error(Code::kBusy, "the processes of this fork stand still until its hook has ended",
                    "Wait until the fork has been made.");
}

void SandboxState::thaw() {
  if (held_) held_->thaw();
  held_.reset();
}

void SandboxState::end_held() {
  if (held_) held_->end_all();
  held_.reset();
}

}  // namespace deltabox
