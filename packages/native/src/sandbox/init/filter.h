// The seccomp filter of all tasks of a sandbox, as constant data: pid 1 installs it on itself and all tasks inherit it.
//
// Why each group is refused:
//  - views of the file tree that a volume switch does not reach (mount namespaces, chroot, mounts of their own) would
//    keep writing sealed layers;
//  - asynchronous kernel work (io_uring) would write while all tasks are frozen;
//  - separate file tables or working directories inside one thread group (unshare, clone without CLONE_FS|CLONE_FILES)
//    are not described by an image;
//  - kernel-wide interfaces that no namespace confines (keyrings, bpf, perf, kexec, modules).
// clone3 and userfaultfd answer RET_TRACE: ENOSYS for tasks (glibc then uses clone), allowed while the engine, which
// sets PTRACE_O_TRACESECCOMP, runs them through the parasite.
// The rename calls answer RET_USER_NOTIF: the room renames/ carries out those that overlayfs refuses. Where no listener
// can be had, a program without that answer is installed.
#pragma once

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>

namespace deltabox::filter {

inline constexpr std::uint32_t kNumberOffset = 0;
inline constexpr std::uint32_t kArchOffset = 4;
inline constexpr std::uint32_t kArgument0Offset = 16;
inline constexpr std::uint32_t kArgument1Offset = 24;
inline constexpr std::uint32_t kArgument2Offset = 32;

inline constexpr int kMseal = 462;  // 6.10; a mapping that is sealed could not be rolled back

inline constexpr int kNoSuchCall[] = {
    kMseal, SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register, SYS_add_key, SYS_request_key, SYS_keyctl,
};

inline constexpr int kNotPermitted[] = {
    SYS_mount,
    SYS_umount2,
    SYS_pivot_root,
    SYS_move_mount,
    SYS_open_tree,
    SYS_fsopen,
    SYS_fsconfig,
    SYS_fsmount,
    SYS_fspick,
    SYS_mount_setattr,
    SYS_setns,
    SYS_unshare,
    SYS_chroot,
    SYS_bpf,
    SYS_perf_event_open,
    SYS_kexec_load,
    SYS_kexec_file_load,
    SYS_init_module,
    SYS_finit_module,
    SYS_delete_module,
    SYS_reboot,
    SYS_swapon,
    SYS_swapoff,
    SYS_acct,
    SYS_quotactl,
    SYS_syslog,
    SYS_fanotify_init,
    SYS_open_by_handle_at,
    SYS_name_to_handle_at,
    SYS_vhangup,
    SYS_iopl,
    SYS_ioperm,
    SYS_settimeofday,
    SYS_clock_settime,
    SYS_adjtimex,
    SYS_clock_adjtime,
};

inline constexpr int kTracerOnly[] = {SYS_clone3, SYS_userfaultfd};

inline constexpr int kNotified[] = {SYS_rename, SYS_renameat, SYS_renameat2};

inline constexpr std::uint32_t kNewNamespaces =
    CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP;
inline constexpr std::uint32_t kArgument3Offset = 40;

inline constexpr std::uint32_t kPtraceSeize = 0x4206;
inline constexpr std::uint32_t kPtraceSetOptions = 0x4200;
inline constexpr std::uint32_t kPtraceOptionTraceSeccomp = 0x80;
inline constexpr std::uint32_t kCloseRangeUnshare = 2;  // CLOSE_RANGE_UNSHARE, 5.9
inline constexpr std::uint32_t kTiocsti = 0x5412;       // types into a terminal
inline constexpr std::uint32_t kTioclinux = 0x541C;     // pastes into one

template <std::size_t kCapacity>
struct Program {
  sock_filter code[kCapacity] = {};
  std::size_t size = 0;

  constexpr void add(std::uint16_t op, std::uint32_t k, std::uint8_t if_true = 0, std::uint8_t if_false = 0) {
    code[size++] = sock_filter{op, if_true, if_false, k};
  }
  constexpr void load(std::uint32_t offset) { add(BPF_LD | BPF_W | BPF_ABS, offset); }
  constexpr void give(std::uint32_t action) { add(BPF_RET | BPF_K, action); }
  // Returns `action` when the loaded word equals `value`.
  constexpr void when_equal(std::uint32_t value, std::uint32_t action) {
    add(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1);
    give(action);
  }
  // Returns `action` when the loaded word has any bit of `mask`.
  constexpr void when_any_bit(std::uint32_t mask, std::uint32_t action) {
    add(BPF_JMP | BPF_JSET | BPF_K, mask, 0, 1);
    give(action);
  }
};

enum class Renames { kNotified, kPassed };

constexpr auto build(Renames renames) {
  constexpr std::uint32_t kEnosys = SECCOMP_RET_ERRNO | ENOSYS;
  constexpr std::uint32_t kEperm = SECCOMP_RET_ERRNO | EPERM;
  Program<192> program;
  program.load(kArchOffset);
  program.add(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
  program.give(kEnosys);  // 32-bit calls have other numbers
  program.load(kNumberOffset);
  program.add(BPF_JMP | BPF_JGE | BPF_K, 0x40000000u, 0, 1);
  program.give(kEnosys);  // x32
  for (const int number : kNoSuchCall) program.when_equal(static_cast<std::uint32_t>(number), kEnosys);
  for (const int number : kNotPermitted) program.when_equal(static_cast<std::uint32_t>(number), kEperm);
  for (const int number : kTracerOnly) program.when_equal(static_cast<std::uint32_t>(number), SECCOMP_RET_TRACE);
  if (renames == Renames::kNotified) {
    for (const int number : kNotified) program.when_equal(static_cast<std::uint32_t>(number), SECCOMP_RET_USER_NOTIF);
  }
  // clone: no new namespaces; a thread shares files and working directory with its group, a process does not share its
  // descriptor table, and its memory only until exec (vfork).
  program.add(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 14);
  program.load(kArgument0Offset);
  program.when_any_bit(kNewNamespaces, kEperm);
  program.add(BPF_JMP | BPF_JSET | BPF_K, CLONE_THREAD, 0, 4);
  program.add(BPF_ALU | BPF_AND | BPF_K, CLONE_FS | CLONE_FILES);
  program.add(BPF_JMP | BPF_JEQ | BPF_K, CLONE_FS | CLONE_FILES, 0, 1);
  program.give(SECCOMP_RET_ALLOW);
  program.give(kEperm);
  program.when_any_bit(CLONE_FILES, kEperm);
  program.add(BPF_JMP | BPF_JSET | BPF_K, CLONE_VM, 0, 2);
  program.add(BPF_JMP | BPF_JSET | BPF_K, CLONE_VFORK, 1, 0);
  program.give(kEperm);
  program.give(SECCOMP_RET_ALLOW);
  // close_range(CLOSE_RANGE_UNSHARE) would give a thread a descriptor table of its own.
  program.add(BPF_JMP | BPF_JEQ | BPF_K, SYS_close_range, 0, 4);
  program.load(kArgument2Offset);
  program.when_any_bit(kCloseRangeUnshare, kEperm);
  program.give(SECCOMP_RET_ALLOW);
  // A tracer inside must not let the calls pass that only the engine's tracer may.
  program.add(BPF_JMP | BPF_JEQ | BPF_K, SYS_ptrace, 0, 7);
  program.load(kArgument0Offset);
  program.add(BPF_JMP | BPF_JEQ | BPF_K, kPtraceSeize, 1, 0);
  program.add(BPF_JMP | BPF_JEQ | BPF_K, kPtraceSetOptions, 0, 3);
  program.load(kArgument3Offset);
  program.when_any_bit(kPtraceOptionTraceSeccomp, kEperm);
  program.give(SECCOMP_RET_ALLOW);
  program.add(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 5);
  program.load(kArgument1Offset);
  program.when_equal(kTiocsti, kEperm);
  program.when_equal(kTioclinux, kEperm);
  program.give(SECCOMP_RET_ALLOW);
  return program;
}

inline constexpr auto kProgram = build(Renames::kNotified);
inline constexpr auto kProgramWithoutListener = build(Renames::kPassed);
static_assert(kProgram.size <= 192);

}  // namespace deltabox::filter
