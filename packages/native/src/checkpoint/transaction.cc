#include "checkpoint/transaction.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <set>
#include <utility>

#include "base/clock.h"
#include "base/fault.h"
#include "checkpoint/accounts.h"
#include "deltacr/unseen_writes.h"
#include "reconcile/apply.h"
#include "reconcile/descriptor_io.h"
#include "reconcile/descriptor_room.h"
#include "reconcile/private_mappings.h"
#include "sys/files.h"
#include "sys/mounts.h"
#include "tracee/proc_files.h"

namespace deltabox {

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
    views.push_back({volumes_[index].mount_id(), volumes_[index].device(), volumes_[index].serial(),
                     volumes_[index].spec().path, changed[index], sealing && changed[index],
                     volumes_[index].writable_dir()->get(), volumes_[index].mount_fd(),
                     volumes_[index].ctimes_tell_stores()});
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
  past_overlays_.forget(volumes_[volume].device());
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
  CheckpointAttempt attempt;
  attempt.call_start_ns = monotonic_ns();
  for (;;) {
    Result<const Checkpoint*> taken = try_checkpoint(options, attempt);
    if (taken.ok()) return taken;
    if (!attempt.wants_copied.empty()) {
      attempt.found_open = std::exchange(attempt.wants_copied, {});
    } else if (attempt.lost_copy) {
      // Somebody ended the process that stood still for another: memory ran out, or the sandbox killed all it has.
      attempt.deltas = Deltas::kCopyAll;
      attempt.lost_copy = false;
    } else {
      return taken;
    }
  }
}

Result<const Checkpoint*> SandboxState::try_checkpoint(const CheckpointOptions& options, CheckpointAttempt& attempt) {
  TRY(check_not_held());
  TRY(tree_.check_name(options.name));
  TRY(namespaces_.enter_m0());
  for (std::size_t index = 0; index < volumes_.size(); ++index) {
    if (!volumes_[index].changed()) continue;
    TRY(stage_seal(index));
    TRY(volumes_[index].prepare_root(*standby_[index]));
  }
  TRY(namespaces_.enter_m1());
  const std::vector<bool> written = changed_volumes();
  if (std::find(written.begin(), written.end(), true) != written.end()) descriptors_.let_watchers_read(registry_);
  std::vector<std::vector<KeptFile>> known_open(volumes_.size());
  for (std::size_t index = 0; index < volumes_.size(); ++index) {
    if (!written[index]) continue;
    known_open[index] = volumes_[index].kept();
    if (!attempt.found_open) continue;
    const std::vector<KeptFile>& found = (*attempt.found_open)[index];
    known_open[index].insert(known_open[index].end(), found.begin(), found.end());
  }
  std::vector<CopiesAhead> ahead = copy_ahead(known_open, nullptr);

  fault_point(FaultPoint::kBeforeFreeze);
  renames::Pause no_renames = TRY(renames_.pause());
  Freeze freeze = TRY(freezer_.freeze_all());
  fault_point(FaultPoint::kAfterFreeze);
  const double freeze_us = elapsed_us(freeze.started_ns());
  const std::uint64_t pause_start_ns = freeze.started_ns();
  TreeCapture capture(namespaces_.host_proc.get(), freeze, registry_, store_, descriptors_, deleted_files_,
                      shared_memory_, sockets_, past_overlays_);
  if (attempt.deltas == Deltas::kParkLarge) capture.park_large_deltas();
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
    TRY(namespaces_.enter_m1());
  }
  std::vector<const StagedOverlay*> staged(volumes_.size(), nullptr);
  std::set<int> switched;
  for (std::size_t index = 0; index < volumes_.size(); ++index) {
    if (!changed[index]) continue;
    staged[index] = &*standby_[index];
    switched.insert(static_cast<int>(index));
  }
  TRY(check_descriptor_room(*image, switched));
  const FilesToKeep open_now = files_to_keep(*image, views);
  if (!attempt.found_open) {
    const Result<void> goes_on = break_off_for_large(open_now, staged, ahead, attempt);
    if (!goes_on.ok()) {
      attempt.earlier_pause_us = elapsed_us(pause_start_ns);
      return goes_on.error();
    }
  }
  HandOvers hand_overs = TRY(prepare_hand_overs(open_now, staged, std::move(ahead)));
  for (const auto& hand_over : hand_overs) {
    if (!hand_over) continue;
    record.copied_open_file_bytes += hand_over->copied_bytes();
    record.copied_ahead_bytes += hand_over->copied_ahead_bytes();
  }
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
  record.pause_us = elapsed_us(pause_start_ns) + attempt.earlier_pause_us;

  const Result<std::uint64_t> stored_pages = capture.enter_pages();
  attempt.lost_copy = !stored_pages.ok() && record.parked_pages > 0;
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
  record.engine_us = elapsed_us(attempt.call_start_ns);
  const Checkpoint* checkpoint = TRY(commit(std::move(record)));
  if (options.pinned) TRY(pin(checkpoint->id, true));
  // Usually it can wait for settle(). Where it can't and fails, a crash brings back the state before, which is whole.
  if (!state_is_recorded()) (void)write_state();
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

// What fails here is left to the pause, which tells of it.
std::vector<CopiesAhead> SandboxState::copy_ahead(const std::vector<std::vector<KeptFile>>& files,
                                                  const Checkpoint* target) const {
  std::vector<CopiesAhead> ahead(volumes_.size());
  const auto look = [&]() -> Result<void> {
    bool any = false;
    for (std::size_t index = 0; index < volumes_.size(); ++index) {
      if (files[index].empty()) continue;
      TRY(ahead[index].look(volumes_[index], files[index]));
      if (target != nullptr) {
        TRY(ahead[index].look_at_target(volumes_[index], target->stacks[index], files[index]));
      }
      any = any || !ahead[index].empty();
    }
    if (!any) return {};
    std::set<std::string> unseen;
    for (const HostTid pid : descendants_of(namespaces_.host_proc.get(), namespaces_.init)) {
      TRY(add_unseen_writes(namespaces_.host_proc.get(), pid, unseen));
    }
    for (CopiesAhead& of_volume : ahead) of_volume.leave_out(unseen);
    return {};
  };
  if (!look().ok()) return std::vector<CopiesAhead>(volumes_.size());
  for (CopiesAhead& of_volume : ahead) of_volume.work();
  return ahead;
}

// A checkpoint that would copy much in its pause begins once more, when that is done.
Result<void> SandboxState::break_off_for_large(const FilesToKeep& files,
                                               const std::vector<const StagedOverlay*>& staged,
                                               std::vector<CopiesAhead>& ahead, CheckpointAttempt& attempt) const {
  std::vector<std::vector<KeptFile>> large(volumes_.size());
  bool any = false;
  for (std::size_t index = 0; index < volumes_.size(); ++index) {
    if (staged[index] == nullptr) continue;
    large[index] = TRY(ahead[index].missed(volumes_[index], files[index]));
    any = any || !large[index].empty();
  }
  if (!any) return {};
  attempt.wants_copied = std::move(large);
  return make_error(Code::kInternal, "large files are open that were not copied ahead");
}

Result<HandOvers> SandboxState::prepare_hand_overs(const FilesToKeep& files,
                                                   const std::vector<const StagedOverlay*>& staged,
                                                   std::vector<CopiesAhead> ahead) {
  HandOvers hand_overs(volumes_.size());
  for (std::size_t index = 0; index < volumes_.size(); ++index) {
    if (staged[index] == nullptr) continue;
    hand_overs[index].emplace(
        TRY(HandOver::prepare(volumes_[index], *staged[index], files[index], std::move(ahead[index]))));
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
    if (fault_fails(FaultPoint::kAfterOneSwitch)) return make_error(Code::kInternal, "it was told to fail");
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

std::uint64_t SandboxState::live_processes() const {
  return descendants_of(namespaces_.host_proc.get(), namespaces_.init).size();
}

}  // namespace deltabox
