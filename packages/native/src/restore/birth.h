// Makes one task with a chosen pid, standing still and traced.
//
// No task inside may choose pids, and none has to: init sets the number that the kernel gives next (ns_last_pid), then
// the parent forks, or the process makes a thread, by a plain clone(2). Everything else inside is frozen, so nobody
// comes between.
#pragma once

#include "base/ids.h"
#include "base/result.h"
#include "parasite/maker.h"
#include "sandbox/init_client.h"

namespace deltabox {

// A child of init that leads a session; Session::begin may be called on it.
Result<HostTid> make_child_of_init(int proc_fd, InitClient& init, InsidePid pid);
// `flags` of clone(2): SIGCHLD for a child, those of a thread for a thread.
Result<HostTid> make_task(int proc_fd, InitClient& init, const Maker& maker, InsidePid pid, std::uint64_t flags);

// Of any process: a `syscall` instruction in its vdso.
Result<RemoteAddress> syscall_instruction(int proc_fd, HostTid pid);

}  // namespace deltabox
