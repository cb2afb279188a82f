// The renames process: receives each rename call of the sandbox and answers it.
//
//   not a directory                          → the kernel carries it out (most calls; decided by one stat)
//   a directory                              → tried for the task, with its rights; the outcome is the answer
//   … refused by overlayfs, on one mount     → moved in steps by a child (move_directory.h), whose outcome is the
//   answer anything that can't be read or resolved  → the kernel carries it out, and refuses as it always does
//
// Passing a call on is harmless whatever it was taken for: the kernel judges it anew. Everything else is done with the
// ids and capabilities of the task that asks, on paths resolved with these rights from its own directories.
#pragma once

#include <sys/types.h>

#include <array>
#include <optional>

#include "base/result.h"
#include "base/unique_fd.h"
#include "renames/call.h"
#include "renames/gate.h"
#include "renames/identity.h"
#include "renames/move_directory.h"
#include "sys/seccomp.h"

namespace deltabox::renames {

class Responder {
 public:
  // proc_fd: the /proc of the calling process's pid namespace. The caller's root directory is that of the tasks, and it
  // has all capabilities in their user namespace.
  static Result<Responder> create(int listener_fd, int proc_fd, Gate& gate);
  // Returns when no task is left that could ask.
  Result<void> run();

 private:
  Responder(int listener_fd, int proc_fd, Gate& gate) : listener_fd_(listener_fd), proc_fd_(proc_fd), gate_(&gate) {}
  void serve_call();
  void serve_directory(const sys::Notification& notification);
  void begin_move(const sys::Notification& notification, const Identity& identity, const DirectoryMove& move);
  void reap();
  std::size_t free_slot();

  int listener_fd_;
  int proc_fd_;
  Gate* gate_;
  Identity own_;
  UniqueFd child_signals_;
  std::array<pid_t, Gate::kSlots> children_{};  // by slot
};

}  // namespace deltabox::renames
