#include "checkpoint/recovery.h"

#include <algorithm>
#include <map>
#include <optional>

#include "deltafs/layer_digest.h"

namespace deltabox {

namespace {

// Opens layers by id, once each, and remembers what is wrong with one.
class LayerFinder {
 public:
  LayerFinder(LayerStore& layers, bool digest_required) : layers_(layers), digest_required_(digest_required) {}

  // Null when the layer must not be used; `why` says why.
  std::shared_ptr<const Layer> find(std::uint64_t id, bool check, std::string& why) {
    Entry& entry = entries_[id];
    if (!entry.looked_at) {
      entry.looked_at = true;
      Result<std::shared_ptr<const Layer>> opened = layers_.open_layer(id);
      if (opened.ok()) {
        entry.layer = opened.release_value();
      } else {
        entry.fault = "layer " + std::to_string(id) + ": " + opened.error().describe();
      }
    }
    if (entry.layer && check && !entry.checked) {
      entry.checked = true;
      const Result<std::string> fault = check_digest(*entry.layer, digest_required_);
      const std::string what = fault.ok() ? fault.value() : fault.error().describe();
      if (!what.empty()) entry.fault = "layer " + std::to_string(id) + ": " + what;
    }
    if (entry.fault.empty()) return entry.layer;
    why = entry.fault;
    return nullptr;
  }

 private:
  struct Entry {
    bool looked_at = false;
    bool checked = false;
    std::shared_ptr<const Layer> layer;
    std::string fault;
  };
  LayerStore& layers_;
  bool digest_required_;
  std::map<std::uint64_t, Entry> entries_;
};

// The stacks of one state, by volume; nullopt when a layer must not be used.
template <typename Stacks, typename LayersOf>
std::optional<std::vector<LayerStack>> open_stacks(const std::vector<VolumeSpec>& specs, const Stacks& stacks,
                                                   LayersOf layers_of, LayerFinder& finder, std::string& why) {
  std::vector<LayerStack> opened;
  for (const VolumeSpec& spec : specs) {
    LayerStack stack;
    for (const auto& recorded : stacks) {
      for (const std::uint64_t id : layers_of(recorded, spec.name)) {
        std::shared_ptr<const Layer> layer = finder.find(id, true, why);
        if (!layer) return std::nullopt;
        stack.push_back(std::move(layer));
      }
    }
    opened.push_back(std::move(stack));
  }
  return opened;
}

Checkpoint to_checkpoint(const records::Checkpoint& record) {
  Checkpoint checkpoint;
  checkpoint.id = record.id();
  checkpoint.parent = record.parent();
  checkpoint.name = record.name();
  checkpoint.metadata.insert(record.metadata().begin(), record.metadata().end());
  checkpoint.created_at_ms = record.created_at_ms();
  checkpoint.is_safety = record.is_safety();
  checkpoint.image = std::make_shared<TreeImage>();
  checkpoint.processes = record.processes();
  checkpoint.layer_usage = {record.layer_files(), record.layer_bytes()};
  checkpoint.pause_us = record.pause_us();
  return checkpoint;
}

const Checkpoint* find_by_id(const std::vector<Checkpoint>& all, const std::string& id) {
  const auto found = std::find_if(all.begin(), all.end(), [&](const Checkpoint& one) { return one.id == id; });
  return found != all.end() ? &*found : nullptr;
}

// The state to go on with when the live one can't be used: the head or its nearest usable ancestor, else the newest.
const Checkpoint* fallback(const Recovered& recovered, const std::map<std::string, std::string>& parents) {
  std::string id = recovered.head;
  for (std::size_t step = 0; step <= parents.size() && !id.empty(); ++step) {
    if (const Checkpoint* checkpoint = find_by_id(recovered.checkpoints, id)) return checkpoint;
    const auto parent = parents.find(id);
    id = parent != parents.end() ? parent->second : std::string();
  }
  return recovered.checkpoints.empty() ? nullptr : &recovered.checkpoints.back();
}

}  // namespace

Result<Recovered> recover(const RecordStore& records, LayerStore& layers, const std::vector<VolumeSpec>& specs,
                          const std::string& boot_id) {
  Recovered recovered;
  const RecordStore::Found found = TRY(records.read_checkpoints());
  recovered.damaged = found.damaged;
  recovered.durable.assign(found.durable.begin(), found.durable.end());
  Result<records::State> state = records.read_state();
  if (!state.ok() && found.checkpoints.empty()) return state.release_error();
  if (!state.ok()) recovered.warnings.push_back(state.error().describe());
  const bool same_boot = state.ok() && state.value().boot_id() == boot_id;
  LayerFinder finder(layers, !same_boot);
  std::map<std::string, std::string> parents;
  for (const records::Checkpoint& record : found.checkpoints) {
    parents[record.id()] = record.parent();
    std::string why;
    if (!same_boot && !found.durable.contains(record.id())) {
      why = "it was not durable yet when the machine went down";
    } else {
      const auto layers_of = [](const records::Stack& stack, const std::string& volume) {
        return stack.volume() == volume ? std::vector<std::uint64_t>(stack.layers().begin(), stack.layers().end())
                                        : std::vector<std::uint64_t>();
      };
      auto stacks = open_stacks(specs, record.stacks(), layers_of, finder, why);
      if (stacks) {
        Checkpoint checkpoint = to_checkpoint(record);
        checkpoint.pinned = found.pinned.contains(record.id());
        for (LayerStack& stack : *stacks) {
          checkpoint.stacks.push_back(std::make_shared<LayerStack>(std::move(stack)));
        }
        recovered.checkpoints.push_back(std::move(checkpoint));
        continue;
      }
    }
    recovered.damaged.push_back({0, record.id(), why});
  }
  // The copy names the head of the last sync; of the live state's layers it knows nothing that still counts.
  const auto take_head = [&](const Result<records::State>& last) {
    if (!last.ok()) return;
    recovered.head = last.value().head();
    recovered.next_checkpoint = last.value().next_checkpoint();
  };
  if (state.ok()) {
    take_head(state);
    // What was committed after the state was written is what the live files derive from.
    for (const Checkpoint& checkpoint : recovered.checkpoints) {
      if (same_boot && number_of(checkpoint.id) >= state.value().next_checkpoint()) recovered.head = checkpoint.id;
    }
  } else {
    take_head(records.read_state_copy());
  }
  // Known by the copy as well, and of no other state's concern: what can't be opened is not lent any more.
  if (state.ok()) {
    for (const std::uint64_t id : state.value().lent_layers()) {
      std::string unused;
      if (auto layer = finder.find(id, false, unused)) recovered.lent.push_back(std::move(layer));
    }
  }
  // No id is given twice, those of damaged checkpoints included.
  const auto reserve = [&](const std::string& id) {
    recovered.next_checkpoint = std::max<std::uint64_t>(recovered.next_checkpoint, number_of(id) + 1);
  };
  for (const records::Checkpoint& record : found.checkpoints) reserve(record.id());
  for (const Notice& damaged : found.damaged) reserve(damaged.kind);
  std::string why = "the machine was started anew since";
  if (same_boot) {
    // The layers that were being written have no digest: they are taken as they are.
    const auto live = [](const records::LiveVolume& volume, const std::string& name) {
      std::vector<std::uint64_t> ids;
      if (volume.name() != name) return ids;
      ids.assign(volume.stack().begin(), volume.stack().end());
      if (volume.writable_layer() != 0) ids.push_back(volume.writable_layer());
      if (volume.staged_layer() != 0) ids.push_back(volume.staged_layer());
      return ids;
    };
    if (auto stacks = open_stacks(specs, state.value().volumes(), live, finder, why)) {
      recovered.stacks = std::move(*stacks);
      return recovered;
    }
  }
  const Checkpoint* base = fallback(recovered, parents);
  if (base == nullptr) {
    return make_error(Code::kDamaged, "nothing of the sandbox can be used: " + why,
                      "Remove the sandbox; its workspace on the host was never changed.");
  }
  recovered.warnings.push_back("the files are those of checkpoint " + base->id + ", not the last ones: " + why);
  for (const auto& stack : base->stacks) recovered.stacks.push_back(*stack);
  recovered.head = base->id;
  return recovered;
}

}  // namespace deltabox
