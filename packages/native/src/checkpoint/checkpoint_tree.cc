#include "checkpoint/checkpoint_tree.h"

#include <algorithm>

namespace deltabox {

namespace {

constexpr std::size_t kMaxNameBytes = 64;
constexpr const char* kIdPrefix = "cp-";

bool looks_like_id(const std::string& name) {
  return name.starts_with(kIdPrefix) && name.size() > 3 &&
         std::all_of(name.begin() + 3, name.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// Names are shown in terminals and trees: no control characters.
bool printable(char c) { return static_cast<unsigned char>(c) >= 0x20 && c != 0x7f; }

}  // namespace

Result<void> CheckpointTree::check_name(const std::string& name) const {
  if (name.empty()) return {};
  if (name.size() > kMaxNameBytes || !std::all_of(name.begin(), name.end(), printable) || name.front() == ' ' ||
      name.back() == ' ' || looks_like_id(name)) {
    return make_error(Code::kInvalidArgument, "not a checkpoint name: " + name.substr(0, 80),
                      "Use 1 to 64 bytes without control characters or outer spaces; cp-<number> is reserved for ids.");
  }
  if (find(name).ok()) {
    return make_error(Code::kAlreadyExists, "a checkpoint is already named " + name, "Choose another name.");
  }
  return {};
}

const Checkpoint& CheckpointTree::commit(Checkpoint checkpoint, std::uint64_t now_ns) {
  checkpoint.id = kIdPrefix + std::to_string(next_++);
  checkpoint.parent = head_;
  checkpoint.last_used_ns = now_ns;
  head_ = checkpoint.id;
  checkpoints_.push_back(std::make_unique<Checkpoint>(std::move(checkpoint)));
  return *checkpoints_.back();
}

Result<const Checkpoint*> CheckpointTree::find(const std::string& id_or_name) const {
  for (const auto& checkpoint : checkpoints_) {
    if (checkpoint->id == id_or_name || (!id_or_name.empty() && checkpoint->name == id_or_name)) {
      return static_cast<const Checkpoint*>(checkpoint.get());
    }
  }
  for (const Notice& damaged : damaged_) {
    if (damaged.kind == id_or_name) {
      return make_error(Code::kDamaged, "checkpoint " + id_or_name + " can't be used: " + damaged.reason,
                        "Use another checkpoint.");
    }
  }
  return make_error(Code::kCheckpointNotFound, "no checkpoint is called " + id_or_name.substr(0, 80),
                    "List the checkpoints to see their ids and names.");
}

void CheckpointTree::restore(std::vector<Checkpoint> checkpoints, std::string head, std::uint64_t next,
                             std::vector<Notice> damaged) {
  checkpoints_.clear();
  for (Checkpoint& checkpoint : checkpoints) {
    checkpoints_.push_back(std::make_unique<Checkpoint>(std::move(checkpoint)));
  }
  head_ = std::move(head);
  next_ = next;
  damaged_ = std::move(damaged);
}

Checkpoint* CheckpointTree::find_own(const std::string& id) const {
  const auto found = std::find_if(checkpoints_.begin(), checkpoints_.end(),
                                  [&](const auto& checkpoint) { return checkpoint->id == id; });
  return found != checkpoints_.end() ? found->get() : nullptr;
}

void CheckpointTree::set_head(const std::string& id, std::uint64_t now_ns) {
  head_ = id;
  if (Checkpoint* checkpoint = find_own(id)) checkpoint->last_used_ns = now_ns;
}

void CheckpointTree::pin(const std::string& id, bool pinned) { find_own(id)->pinned = pinned; }

const Checkpoint* CheckpointTree::least_recently_used(const std::set<std::string>& except) const {
  const Checkpoint* oldest = nullptr;
  for (const auto& checkpoint : checkpoints_) {
    const bool has_memory = !checkpoint->cold && !checkpoint->image->processes.empty();
    if (!has_memory || checkpoint->pinned || checkpoint->id == head_ || except.contains(checkpoint->id)) continue;
    if (oldest == nullptr || checkpoint->last_used_ns < oldest->last_used_ns) oldest = checkpoint.get();
  }
  return oldest;
}

void CheckpointTree::cool(const std::string& id) {
  Checkpoint& checkpoint = *find_own(id);
  checkpoint.image = std::make_shared<TreeImage>();
  checkpoint.cold = true;
}

void CheckpointTree::warm(const std::string& id, std::shared_ptr<const TreeImage> image) {
  Checkpoint& checkpoint = *find_own(id);
  checkpoint.image = std::move(image);
  checkpoint.cold = false;
}

void CheckpointTree::remove(const std::string& id) {
  const auto found = std::find_if(checkpoints_.begin(), checkpoints_.end(),
                                  [&](const auto& checkpoint) { return checkpoint->id == id; });
  const std::string parent = (*found)->parent;
  checkpoints_.erase(found);
  for (const auto& checkpoint : checkpoints_) {
    if (checkpoint->parent == id) checkpoint->parent = parent;
  }
  if (head_ == id) head_ = parent;
}

std::vector<std::string> CheckpointTree::expired(const Retention& retention) const {
  const auto bytes_of = [](const Checkpoint& checkpoint) {
    return checkpoint.layer_usage.bytes + checkpoint.stored_pages * kPageSize;
  };
  std::size_t count = checkpoints_.size();
  std::uint64_t bytes = 0;
  for (const auto& checkpoint : checkpoints_) bytes += bytes_of(*checkpoint);
  std::vector<std::string> ids;
  for (const auto& checkpoint : checkpoints_) {
    const bool too_many = retention.keep_last > 0 && count > retention.keep_last;
    const bool too_large = retention.max_bytes > 0 && bytes > retention.max_bytes;
    if (!too_many && !too_large) break;
    if (checkpoint->pinned || checkpoint->id == head_ || (retention.keep_named && !checkpoint->name.empty())) continue;
    ids.push_back(checkpoint->id);
    --count;
    bytes -= bytes_of(*checkpoint);
  }
  return ids;
}

}  // namespace deltabox
