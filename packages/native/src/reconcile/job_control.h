// Processes that were stopped (Ctrl-Z, SIGSTOP) at the checkpoint stop again, those that ran go on. What their parents
// would be told of it is not told: it did not happen.
#pragma once

#include <map>
#include <vector>

#include "base/result.h"
#include "deltacr/image.h"
#include "deltacr/live_process.h"
#include "tracee/freezer.h"

namespace deltabox {

class JobControl {
 public:
  JobControl(Freeze& freeze, ProcessRegistry& registry, const TreeImage& target)
      : freeze_(freeze), registry_(registry), target_(target) {}
  // Before the target's signals are put back, which takes the SIGCONT away again.
  void continue_running();
  // Once registers, masks and signals are the target's and nobody is held any more. The threads come to a stop without
  // one instruction of theirs, and stay where they are after the thaw.
  Result<void> stop_stopped();

 private:
  FrozenProcess* find_frozen(const ProcessImage& wanted);

  Freeze& freeze_;
  ProcessRegistry& registry_;
  const TreeImage& target_;
  std::map<InsidePid, std::vector<InsidePid>> changed_;  // by parent
};

}  // namespace deltabox
