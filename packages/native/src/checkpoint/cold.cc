// Process states on the disk: which checkpoints have one, and what a rollback or a fork does with it.
#include <unistd.h>

#include <fcntl.h>

#include <set>
#include <utility>

#include "checkpoint/transaction.h"
#include "deltafs/layer_digest.h"

namespace deltabox {

namespace {

constexpr int kStorePatienceMs = 60'000;

}  // namespace

std::vector<std::string> SandboxState::volume_names() const {
  std::vector<std::string> names;
  for (const Volume& volume : volumes_) names.push_back(volume.spec().name);
  return names;
}

bool SandboxState::is_being_written(const std::string& id) const {
  for (const auto& job : image_jobs_) {
    if (job->prepared.id == id) return true;
  }
  return false;
}

bool SandboxState::wants_image(const Checkpoint& checkpoint) const {
  return !checkpoint.cold && !checkpoint.image->processes.empty() && !images_.has(checkpoint.id) &&
         !is_being_written(checkpoint.id) && !unwritable_images_.contains(checkpoint.id);
}

void SandboxState::start_image(const Checkpoint& checkpoint) {
  Result<PreparedImage> prepared = images_.prepare(checkpoint.id, checkpoint.image, volume_names());
  if (!prepared.ok()) {
    unwritable_images_.insert(checkpoint.id);
    make_durable(checkpoint);
    return;
  }
  auto job = std::make_shared<ImageJob>();
  job->prepared = prepared.release_value();
  image_jobs_.push_back(job);
  worker_->post([this, written = job.get()] {
    written->ok = images_.write(written->prepared).ok();
    written->ended = true;
  });
}

void SandboxState::start_images() {
  if (!durable_processes_) return;
  for (const auto& checkpoint : tree_.all()) {
    if (wants_image(*checkpoint)) start_image(*checkpoint);
  }
}

void SandboxState::make_durable(const Checkpoint& checkpoint) {
  std::vector<std::shared_ptr<const Layer>> layers;
  for (const auto& stack : checkpoint.stacks) {
    for (const auto& layer : *stack) {
      if (layer->id != 0) layers.push_back(layer);  // not the host's directories
    }
  }
  durable_->add(checkpoint.id, std::move(layers));
}

bool SandboxState::is_too_much(const Checkpoint* oldest) {
  const std::uint64_t bytes = store_.stored_bytes();
  if (budget_) {
    budget_->tell(bytes, oldest != nullptr ? std::optional(oldest->last_used_ns) : std::nullopt);
    if (budget_->turn() == SharedBudget::Turn::kOurs) return true;
    budget_->ask_another();
  }
  return retention_.hot_bytes != 0 && bytes > retention_.hot_bytes;
}

void SandboxState::cool_down() {
  for (;;) {
    const Checkpoint* oldest = tree_.least_recently_used(unwritable_images_);
    if (!is_too_much(oldest) || oldest == nullptr) return;
    if (!images_.has(oldest->id)) {
      // It goes when it has been written, which settles again.
      if (wants_image(*oldest)) start_image(*oldest);
      return;
    }
    tree_.cool(oldest->id);
  }
}

void SandboxState::budget_changed() {
  if (budget_->acknowledge()) cool_down();
}

Result<void> SandboxState::pin(const std::string& target, bool pinned) {
  const Checkpoint& checkpoint = *TRY(tree_.find(target));
  if (pinned) TRY(warm_up(checkpoint.id));
  TRY(records_.mark_pinned(checkpoint.id, pinned));
  tree_.pin(checkpoint.id, pinned);
  return {};
}

void SandboxState::finish_images() {
  while (!image_jobs_.empty() && image_jobs_.front()->ended) {
    const std::shared_ptr<ImageJob> job = std::move(image_jobs_.front());
    image_jobs_.pop_front();
    const std::string id = job->prepared.id;
    const Result<const Checkpoint*> wanted = tree_.find(id);
    if (!job->ok) unwritable_images_.insert(id);  // for want of space, say; its files stay usable after a crash
    images_.enter(std::move(job->prepared), job->ok, wanted.ok());
    if (wanted.ok() && !durable_->is_durable(id)) make_durable(*wanted.value());
  }
}

Result<void> SandboxState::write_image_now(const Checkpoint& checkpoint) {
  if (checkpoint.cold || checkpoint.image->processes.empty() || images_.has(checkpoint.id)) return {};
  wait_for_store(kStorePatienceMs);
  finish_images();
  if (images_.has(checkpoint.id)) return {};
  if (is_being_written(checkpoint.id)) {
    return make_error(Code::kBusy, "the processes of " + checkpoint.id + " are still being written to the disk",
                      "Try again in a moment.");
  }
  PreparedImage prepared = TRY(images_.prepare(checkpoint.id, checkpoint.image, volume_names()));
  Result<void> written = images_.write(prepared);
  images_.enter(std::move(prepared), written.ok(), true);
  if (written.ok() && durable_processes_ && !durable_->is_durable(checkpoint.id)) make_durable(checkpoint);
  return written;
}

Result<void> SandboxState::warm_up(const std::string& target) {
  const Checkpoint& checkpoint = *TRY(tree_.find(target));
  if (!checkpoint.cold) return {};
  std::shared_ptr<const TreeImage> image = TRY(images_.read(checkpoint.id, volume_names()));
  adopt_commands_(image->commands);
  tree_.warm(checkpoint.id, std::move(image));
  return {};
}

std::uint64_t SandboxState::cold_checkpoints() const {
  std::uint64_t count = 0;
  for (const auto& checkpoint : tree_.all()) count += checkpoint->cold ? 1 : 0;
  return count;
}

Result<LentCheckpoint> SandboxState::lend(const std::string& target) {
  const Checkpoint& checkpoint = *TRY(tree_.find(target));
  TRY(write_image_now(checkpoint));
  wait_for_store(kStorePatienceMs);
  std::set<std::uint64_t> lent;
  for (const auto& layer : lent_) lent.insert(layer->id);
  for (const auto& stack : checkpoint.stacks) {
    for (const auto& layer : *stack) {
      if (layer->id == 0) continue;
      // Whoever borrows it can't write it down.
      if (!has_digest(*layer)) TRY(write_digest(*layer));
      if (lent.insert(layer->id).second) lent_.push_back(layer);
    }
  }
  TRY(write_state());
  LentCheckpoint outcome;
  outcome.id = checkpoint.id;
  outcome.last_layer = layers_.last_id();
  outcome.processes = checkpoint.processes - checkpoint.lost_processes;
  return outcome;
}

}  // namespace deltabox
