// What a sandbox's state begins with, and what of it is written down (docs/checkpoint-format.md).
#include <optional>
#include <set>
#include <utility>

#include "base/fault.h"
#include "base/side_by_side.h"
#include "checkpoint/transaction.h"

namespace deltabox {

Result<void> SandboxState::begin(const std::vector<VolumeSpec>& specs, bool recovering) {
  SandboxNamespaces& ns = namespaces_;
  TRY(ns.enter_m0());
  std::vector<DonorStore> donors;
  for (std::size_t index = 0; index < ns.donors.size(); ++index) {
    donors.push_back({std::move(ns.donors[index]), ns.last_layers[index]});
  }
  layers_ = TRY(LayerStore::create(ns.store.get(), std::move(donors)));
  records_ = TRY(RecordStore::open(ns.store.get()));
  boot_id_ = ns.boot_id;
  std::optional<Recovered> recovered;
  stored_files_ = TRY(StoredFiles::create(ns.store.get()));
  images_ = TRY(ImageStore::open(ns.store.get(), ns.self_fd_dir.get(), store_, stored_files_));
  std::vector<std::uint64_t> old_layers;
  if (recovering) {
    old_layers = TRY(layers_.adopt_ids());
    recovered = TRY(recover(records_, layers_, specs, boot_id_));
  }
  std::vector<std::optional<Volume>> volumes(specs.size());
  // To mount an overlay is most of what a new volume costs.
  TRY(side_by_side(specs.size(), 1, kMostThreads, [&](std::size_t index, std::size_t) -> Result<void> {
    const LayerStack above = recovered ? recovered->stacks[index] : LayerStack();
    volumes[index] = TRY(Volume::create(specs[index], layers_, ns.bases, above));
    return {};
  }));
  for (std::optional<Volume>& volume : volumes) volumes_.push_back(std::move(*volume));
  standby_.resize(specs.size());
  next_rollback_ = NextRollback(specs.size());
  recorded_layers_.resize(specs.size());
  TRY(ns.enter_m1());
  for (Volume& volume : volumes_) TRY(volume.attach(ns.m1_root.get()));
  descriptors_ = TRY(DescriptorReader::create(ns.host_proc.get(), ns.self_fd_dir.get(), std::move(ns.scratch_pipe)));
  deleted_files_ = DeletedFileReader(stored_files_, ns.self_fd_dir.get());
  sockets_ = SocketReader(ns.self_fd_dir.get());
  descriptors_.report_deleted_to(&deleted_files_);
  shared_memory_ = TRY(SharedMemoryReader::create(ns.host_proc.get(), ns.self_fd_dir.get()));
  descriptors_.report_memory_to(&shared_memory_);
  descriptors_.report_sockets_to(&sockets_);
  UniqueFd listener = TRY(ns.init_client.set_up(ns.init_options));
  renames_ = TRY(renames::Service::start(std::move(listener), {ns.host_proc.get(), ns.m1.get(), ns.init}));
  worker_ = TRY(StoreWorker::start());
  durable_ = std::make_unique<DurableWriter>(records_, *worker_);
  if (recovered) adopt(std::move(*recovered), old_layers);
  return write_state();
}

void SandboxState::adopt(Recovered recovered, const std::vector<std::uint64_t>& old_layers) {
  std::set<std::uint64_t> used;
  const auto use = [&](const LayerStack& stack) {
    for (const auto& layer : stack) used.insert(layer->id);
  };
  for (const LayerStack& stack : recovered.stacks) use(stack);
  for (Checkpoint& checkpoint : recovered.checkpoints) {
    for (std::size_t index = 0; index < checkpoint.stacks.size(); ++index) {
      use(*checkpoint.stacks[index]);
      auto whole = std::make_shared<LayerStack>();
      whole->push_back(volumes_[index].live_stack()->front());
      whole->insert(whole->end(), checkpoint.stacks[index]->begin(), checkpoint.stacks[index]->end());
      checkpoint.stacks[index] = std::move(whole);
    }
    checkpoint.kept_files.resize(volumes_.size());
    if (checkpoint.processes > 0 && images_.has(checkpoint.id)) {
      checkpoint.cold = true;
    } else {
      checkpoint.lost_processes = checkpoint.processes;
    }
  }
  for (auto& layer : recovered.lent) {
    used.insert(layer->id);
    lent_.push_back(std::move(layer));
  }
  for (const Volume& volume : volumes_) used.insert(volume.writable_layer()->id);
  std::set<std::string> known;
  for (const Checkpoint& checkpoint : recovered.checkpoints) known.insert(checkpoint.id);
  for (const std::string& id : images_.all()) {
    if (!known.contains(id)) images_.remove(id);
  }
  const std::set<std::string> durable(recovered.durable.begin(), recovered.durable.end());
  for (const std::string& id : durable) durable_->adopt(id);
  recovery_warnings_ = std::move(recovered.warnings);
  for (const Notice& damaged : recovered.damaged) {
    recovery_warnings_.push_back("checkpoint " + damaged.kind + " can't be used: " + damaged.reason);
  }
  // Others were not durable yet, or come from a lender.
  for (const Checkpoint& checkpoint : recovered.checkpoints) {
    if (!durable.contains(checkpoint.id)) make_durable(checkpoint);
  }
  tree_.restore(std::move(recovered.checkpoints), std::move(recovered.head), recovered.next_checkpoint,
                std::move(recovered.damaged));
  for (const std::uint64_t id : old_layers) {
    if (!used.contains(id)) worker_->post([this, id] { (void)layers_.remove(id); });
  }
}

bool SandboxState::state_is_recorded() const {
  for (std::size_t index = 0; index < volumes_.size(); ++index) {
    if (!recorded_layers_[index].contains(volumes_[index].writable_layer()->id)) return false;
  }
  return true;
}

Result<void> SandboxState::write_state() {
  std::vector<std::set<std::uint64_t>> recorded(volumes_.size());
  records::State state;
  state.set_version(kRecordVersion);
  state.set_boot_id(boot_id_);
  state.set_head(tree_.head());
  state.set_next_checkpoint(tree_.next());
  for (std::size_t index = 0; index < volumes_.size(); ++index) {
    records::LiveVolume& volume = *state.add_volumes();
    volume.set_name(volumes_[index].spec().name);
    for (const auto& layer : *volumes_[index].live_stack()) {
      if (layer->id != 0) volume.add_stack(layer->id);
    }
    volume.set_writable_layer(volumes_[index].writable_layer()->id);
    recorded[index].insert(volume.writable_layer());
    if (!seal_is_staged(index)) continue;
    volume.set_staged_layer(standby_[index]->upper->id);
    recorded[index].insert(volume.staged_layer());
  }
  for (const auto& layer : lent_) state.add_lent_layers(layer->id);
  TRY(records_.write_state(state));
  recorded_layers_ = std::move(recorded);
  fault_point(FaultPoint::kStateWritten);
  durable_->start();
  return {};
}

Result<const Checkpoint*> SandboxState::commit(Checkpoint record) {
  const std::string head = tree_.head();
  const Checkpoint& checkpoint = tree_.commit(std::move(record), monotonic_ns());
  records::Checkpoint written;
  written.set_version(kRecordVersion);
  written.set_id(checkpoint.id);
  written.set_parent(checkpoint.parent);
  written.set_name(checkpoint.name);
  written.mutable_metadata()->insert(checkpoint.metadata.begin(), checkpoint.metadata.end());
  written.set_created_at_ms(checkpoint.created_at_ms);
  written.set_is_safety(checkpoint.is_safety);
  written.set_boot_id(boot_id_);
  written.set_processes(checkpoint.processes);
  written.set_layer_files(checkpoint.layer_usage.files);
  written.set_layer_bytes(checkpoint.layer_usage.bytes);
  written.set_pause_us(checkpoint.pause_us);
  for (std::size_t index = 0; index < volumes_.size(); ++index) {
    records::Stack& stack = *written.add_stacks();
    stack.set_volume(volumes_[index].spec().name);
    for (const auto& layer : *checkpoint.stacks[index]) {
      if (layer->id != 0) stack.add_layers(layer->id);
    }
  }
  Result<void> outcome = records_.write_checkpoint(written);
  fault_point(FaultPoint::kCheckpointWritten);
  if (!outcome.ok()) {
    tree_.remove(checkpoint.id);
    tree_.set_head(head, 0);
    return outcome.release_error();
  }
  // Its processes first, where they are to be durable.
  if (!durable_processes_ || !wants_image(checkpoint)) make_durable(checkpoint);
  return &checkpoint;
}

void SandboxState::forget(const std::string& id) {
  tree_.remove(id);
  durable_->forget(id);
  records_.remove_checkpoint(id);
  images_.remove(id);
  unwritable_images_.erase(id);
}

}  // namespace deltabox
