#include "checkpoint/durable.h"

#include <fcntl.h>
#include <unistd.h>

#include <utility>

#include "base/fault.h"
#include "deltafs/layer_digest.h"

namespace deltabox {

void DurableWriter::add(const std::string& id, std::vector<std::shared_ptr<const Layer>> layers) {
  const std::lock_guard lock(mutex_);
  waiting_.push_back({id, std::move(layers)});
}

void DurableWriter::start() {
  const std::lock_guard lock(mutex_);
  if (waiting_.empty() || std::exchange(posted_, true)) return;
  worker_.post([this] { write_all(); });
}

void DurableWriter::adopt(const std::string& id) {
  const std::lock_guard lock(mutex_);
  durable_.insert(id);
}

bool DurableWriter::is_durable(const std::string& id) const {
  const std::lock_guard lock(mutex_);
  return durable_.contains(id);
}

void DurableWriter::forget(const std::string& id) {
  const std::lock_guard lock(mutex_);
  durable_.erase(id);
  std::erase_if(waiting_, [&](const Waiting& waiting) { return waiting.id == id; });
}

void DurableWriter::write_all() {
  std::vector<Waiting> waiting;
  {
    const std::lock_guard lock(mutex_);
    posted_ = false;
    waiting = std::exchange(waiting_, {});
  }
  // A checkpoint that fails stays usable, and is not durable.
  std::vector<std::string> digested;
  for (const Waiting& one : waiting) {
    bool complete = true;
    for (const auto& layer : one.layers) {
      if (worker_.stopping()) return;
      const bool known = has_digest(*layer);
      complete = complete && (known || write_digest(*layer).ok());
      fault_point(FaultPoint::kDigestWritten);
    }
    if (complete) digested.push_back(one.id);
  }
  if (digested.empty()) return;
  // Best effort: without it a crash of the machine may lose which checkpoint was the head, and no checkpoint.
  (void)records_.keep_state_copy();
  fault_point(FaultPoint::kBeforeSync);
  if (::syncfs(records_.fd()) != 0) return;
  fault_point(FaultPoint::kAfterSync);
  for (const std::string& id : digested) {
    if (!records_.mark_durable(id).ok()) continue;
    fault_point(FaultPoint::kMarked);
    const std::lock_guard lock(mutex_);
    durable_.insert(id);
  }
}

}  // namespace deltabox
