// What nobody waits for: staging, merging, expiry, removal of what is not needed any more.
#include <chrono>
#include <future>
#include <utility>

#include "base/fault.h"
#include "checkpoint/transaction.h"
#include "deltafs/merge.h"

namespace deltabox {

namespace {

constexpr std::size_t kReservedPages = 4096;  // 16 MiB: the largest delta that is copied without a page fault

}  // namespace

void SandboxState::remove_unused_layers() {
  fault_point(FaultPoint::kBeforeRemoval);
  for (const std::uint64_t id : layers_.take_unused()) {
    // A layer that stays is a waste of space until the sandbox ends, nothing more.
    worker_->post([this, id] { (void)layers_.remove(id); });
  }
}

void SandboxState::start_merge() {
  if (merge_job_ || merge_failed_) return;
  for (std::size_t index = 0; index < volumes_.size(); ++index) {
    // Until the next switch the live stack still has the run: it would be merged again and again.
    if (volumes_[index].merge_waits()) continue;
    const LayerStack& stack = *volumes_[index].live_stack();
    const std::optional<LayerRun> run = choose_run(stack);
    if (!run) continue;
    const auto first = stack.begin() + static_cast<std::ptrdiff_t>(run->first);
    auto job = std::make_shared<MergeJob>();
    job->volume = index;
    job->run.assign(first, first + static_cast<std::ptrdiff_t>(run->count));
    job->below.assign(stack.begin(), first);
    Result<LayerStore::Fresh> fresh = layers_.make_layer(0700, job->run.front()->level + 1);
    if (!fresh.ok()) return;  // without space there is nothing to gain
    job->merged = std::move(fresh.value().layer);
    job->into = std::move(fresh.value().dir);
    merge_job_ = job;
    worker_->post([job] {
      fault_point(FaultPoint::kBeforeMerge);
      job->ok = merge_layers(job->run, job->below, job->into->get()).ok();  // digested with its first checkpoint
      fault_point(FaultPoint::kAfterMerge);
      job->ended = true;
    });
    return;
  }
}

void SandboxState::finish_background() {
  worker_->acknowledge();
  finish_images();
  durable_->start();
  cool_down();
  if (!merge_job_ || !merge_job_->ended) return;
  const std::shared_ptr<MergeJob> job = std::exchange(merge_job_, nullptr);
  if (job->ok) {
    volumes_[job->volume].use_merged(std::move(job->run), job->merged);
    standby_[job->volume].reset();  // it was staged with the run
  }
  merge_failed_ = !job->ok;  // for want of space, say; not tried again for nothing
  settle();
}

void SandboxState::wait_for_store(int timeout_ms) {
  const auto done = std::make_shared<std::promise<void>>();
  std::future<void> ended = done->get_future();
  worker_->post([done] { done->set_value(); });
  (void)ended.wait_for(std::chrono::milliseconds(timeout_ms));
}

Result<void> SandboxState::delete_checkpoint(const std::string& target) {
  const std::string id = TRY(tree_.find(target))->id;
  forget(id);
  settle();
  return {};
}

const std::shared_ptr<const LayerStack>& SandboxState::expected_stack(std::size_t volume) const {
  const std::string& checkpoint = next_rollback_.expected();
  if (!checkpoint.empty()) {
    const Result<const Checkpoint*> found = tree_.find(checkpoint);
    if (found.ok()) return found.value()->stacks[volume];
  }
  return volumes_[volume].live_stack();
}

bool SandboxState::next_rollback_is_due() const {
  for (std::size_t index = 0; index < volumes_.size(); ++index) {
    if (next_rollback_.is_due(index, *expected_stack(index))) return true;
  }
  return false;
}

void SandboxState::stage_next_rollback() {
  if (!namespaces_.enter_m0().ok()) return;
  for (std::size_t index = 0; index < volumes_.size(); ++index) {
    (void)next_rollback_.stage(index, volumes_[index], layers_, expected_stack(index));
  }
  (void)namespaces_.enter_m1();
  // What is overtaken was never in a record; settle() has written down what it was to write.
  if (state_is_recorded()) remove_unused_layers();
}

void SandboxState::settle() {
  for (const std::string& id : tree_.expired(retention_)) forget(id);
  // Failures here cost time or memory later, never correctness: a parked overlay stays parked, a seal is staged on
  // demand.
  if (!parked_.empty() && namespaces_.enter_m1().ok()) {
    for (UniqueFd& parked : parked_) (void)release_parked(std::move(parked), namespaces_.self_fd_dir.get());
    parked_.clear();
    fault_point(FaultPoint::kParkedReleased);
  }
  unused_.clear();
  start_merge();
  if (namespaces_.enter_m0().ok()) {
    for (std::size_t index = 0; index < volumes_.size(); ++index) {
      const bool was_used = volumes_[index].live_stack()->size() > 1;
      if (was_used) (void)stage_seal(index);
    }
    (void)namespaces_.enter_m1();
    fault_point(FaultPoint::kSealsStaged);
  }
  // What the disk's record of the live state names must not go.
  if (write_state().ok()) remove_unused_layers();
  start_images();
  durable_->start();
  cool_down();
  store_.trim(2 * kReservedPages);
  (void)store_.reserve(kReservedPages);
}

}  // namespace deltabox
