// Pseudo-terminals of the sandbox: settings, size, job control, and the bytes on their way. A terminal is known by its
// number (/dev/pts/N); its master end is held by a task (tmux, script) or, for a command that was started on a
// terminal, by the engine.
#pragma once

#include <map>

#include "base/unique_fd.h"
#include "deltacr/image.h"

namespace deltabox {

// Master ends that the engine holds, by the id of the command.
using TerminalTable = std::map<std::uint64_t, int>;

// For one capture. Keeps duplicates of the tasks' descriptors, so that a terminal can be asked and opened: nobody runs
// before end().
class TerminalReader {
 public:
  // A descriptor of a task that leads to a terminal: fills in which one.
  void meet(Description& description, UniqueFd duplicate);
  // The states of all that have a master end. Once the image has all processes.
  void read(const TerminalTable& commands, TreeImage& image);
  // A task's master end; -1: no task has one.
  int master(int number) const;
  // The number becomes free once nobody has an end of it.
  void forget(int number) { met_.erase(number); }
  void end() { met_.clear(); }

 private:
  struct Ends {
    UniqueFd master;
    UniqueFd slave;
  };
  TerminalImage read_one(int number, int master, int slave, const TreeImage& image) const;
  std::map<int, Ends> met_;
};

// Whether the group, which the kernel names as our pid namespace does, is that of this process of the sandbox.
bool is_in_group(HostTid process, int group);

}  // namespace deltabox
