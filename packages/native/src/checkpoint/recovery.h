// Finds out what is left of a sandbox whose engine has ended: which live state, which checkpoints, and what is damaged.
//
// Under the same boot of the machine the page cache has everything that was written: the live state is the one at the
// end. After another boot only checkpoints count that were marked durable, and the newest of them above the head is the
// state. Layers are checked against their digests before anything is mounted.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "checkpoint/checkpoint_tree.h"
#include "checkpoint/records.h"
#include "deltafs/layer.h"
#include "deltafs/volume.h"

namespace deltabox {

struct Recovered {
  std::vector<LayerStack> stacks;       // by volume, without the bases
  std::vector<Checkpoint> checkpoints;  // their stacks without the bases
  std::vector<std::string> durable;     // ids
  std::string head;
  std::uint64_t next_checkpoint = 1;
  std::vector<std::shared_ptr<const Layer>> lent;  // that forks use
  std::vector<Notice> damaged;                     // kind: id of a checkpoint that must not be used; reason
  std::vector<std::string> warnings;
};

Result<Recovered> recover(const RecordStore& records, LayerStore& layers, const std::vector<VolumeSpec>& specs,
                          const std::string& boot_id);

}  // namespace deltabox
