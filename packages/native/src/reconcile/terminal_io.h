// Pseudo-terminals made anew and put back, in a rollback's pause.
#pragma once

#include <sys/types.h>

#include <functional>
#include <map>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "deltacr/capture.h"
#include "deltacr/image.h"
#include "reconcile/plan_terminals.h"

namespace deltabox {

// Whoever holds the master ends of commands that were started on a terminal.
struct CommandTerminals {
  std::function<Result<void>(std::uint64_t command, UniqueFd master)> keep;
  // Of a command that a rollback ended: its number is needed.
  std::function<void(int number)> give_up;
};

// All terminals of a rollback's target. Keeps both ends of those that it makes until its end, so that none hangs up
// before the tasks have it.
class TerminalRoom {
 public:
  TerminalRoom(int m1_root, TreeCapture& capture, const TerminalTable& commands, const CommandTerminals& holders,
               const TreeImage& live, const TreeImage& target);
  // Once what the target does not know has ended. A number that is still taken becomes another one, which is told.
  void make(std::vector<Notice>& not_restored);
  // A leader that was made takes its session's terminal before it makes others, who inherit it.
  Result<void> take_controlling(HeldProcess& leader, std::vector<Notice>& not_restored);
  // The end that a description was; `holder` is one of those that it is for.
  Result<UniqueFd> open(const Description& wanted, HeldProcess& holder);
  // Modes, sizes, waiting bytes, and who has which terminal. Once processes and descriptors are the target's.
  Result<void> restore(std::vector<Notice>& not_restored);

 private:
  struct Made {
    UniqueFd master;
    UniqueFd slave;
    int number = 0;  // which may not be the one that was wanted
  };
  Result<Made> make_one(const TerminalImage& wanted);
  void free_numbers();
  Result<UniqueFd> open_master(int number);
  int master_of(int number) const;
  Result<void> change_controlling(const SessionTerminal& change, std::vector<Notice>& not_restored);
  Result<void> restore_foreground(const TerminalImage& wanted, int master, std::vector<Notice>& not_restored);
  HeldProcess* leader_of(std::int32_t session);

  int m1_root_;
  TreeCapture& capture_;
  const TerminalTable& commands_;
  const CommandTerminals& holders_;
  const TreeImage& live_;
  const TreeImage& target_;
  TerminalPlan plan_;
  std::map<int, Made> made_;  // by the number that was wanted
};

}  // namespace deltabox
