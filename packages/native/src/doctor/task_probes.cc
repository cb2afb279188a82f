// Probes of what the engine does to tasks: stop them, read them, take and compare their descriptors, filter their
// calls.
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstddef>
#include <string>
#include <utility>

#include "doctor/actors.h"
#include "doctor/probe.h"
#include "doctor/sandbox_init.h"
#include "sys/files.h"
#include "sys/processes.h"
#include "tracee/ptrace.h"

namespace deltabox::doctor {

namespace {

Result<ptrace::Registers> freeze(HostTid tid) {
  TRY(ptrace::seize(tid));
  TRY(ptrace::interrupt(tid));
  const ptrace::Stop stop = TRY(ptrace::wait_for_stop(tid));
  if (stop.kind != ptrace::Stop::Kind::kInterrupted) {
    return make_error(Code::kInternal, "the task did not stop when it was interrupted");
  }
  return ptrace::registers(tid);
}

Result<std::string> probe_ptrace(const Context& context) {
  return as_engine(context, [&]() -> Result<std::string> {
    const auto wait_for_end = [](int socket_fd) { wait_for_prober(socket_fd); };
    const ProbeTask task = TRY(ProbeTask::start(context, ProbeTask::Ids::kIdentity, 0, wait_for_end));
    const ptrace::Registers registers = TRY(freeze(task.tid()));
    TRY(ptrace::extended_state(task.tid()));
    TRY(ptrace::signal_mask(task.tid()));
    TRY(ptrace::rseq_configuration(task.tid()));
    // The child is a copy of this process, so the same address holds the same number there.
    static volatile std::int64_t number = 1;
    const RemoteAddress address{reinterpret_cast<std::uint64_t>(&number)};
    const std::int64_t written = 2;
    std::int64_t read = 0;
    TRY(sys::write_remote(task.tid(), address, &written, sizeof written));
    TRY(sys::read_remote(task.tid(), address, &read, sizeof read));
    if (read != 2 || number != 1) return make_error(Code::kInternal, "memory of a tracee was not written");
    TRY(ptrace::set_registers(task.tid(), registers));
    TRY(ptrace::detach(task.tid()));
    return std::string("a child seized, stopped, read, written and let go");
  });
}

// Makes the stopped pid 1 run prctl(PR_SET_DUMPABLE, 0). It is blocked in a system call, so the two bytes before its
// instruction pointer are a syscall instruction.
Result<void> make_non_dumpable(HostTid tid, ptrace::Registers registers) {
  registers.rip -= 2;
  registers.rax = SYS_prctl;
  registers.rdi = PR_SET_DUMPABLE;
  registers.rsi = 0;
  registers.orig_rax = static_cast<unsigned long long>(-1);  // no system call to restart
  TRY(ptrace::set_registers(tid, registers));
  TRY(ptrace::single_step(tid));
  const ptrace::Stop stop = TRY(ptrace::wait_for_stop(tid));
  if (stop.kind != ptrace::Stop::Kind::kSignal || stop.signal != SIGTRAP) {
    return make_error(Code::kInternal, "a single step did not end in SIGTRAP");
  }
  if (TRY(ptrace::registers(tid)).rax != 0) return make_error(Code::kInternal, "prctl in a tracee failed");
  return {};
}

// A non-dumpable task is closed even to its own user; what opens it is the engine's capability over the namespace in
// which the task executed its program. So it must be one that did execute, and the sandbox's pid 1 is at hand.
Result<std::string> probe_ptrace_non_dumpable(const Context& context) {
  const UniqueFd binary = TRY(sys::open_at(AT_FDCWD, context.init_binary, O_PATH));
  return as_engine(context, [&]() -> Result<std::string> {
    SandboxInit init = TRY(SandboxInit::start(context, binary.get()));
    TRY(init.set_up());
    const ptrace::Registers registers = TRY(freeze(init.tid()));
    TRY(make_non_dumpable(init.tid(), registers));
    TRY(ptrace::detach(init.tid()));
    const ptrace::Registers again = TRY(freeze(init.tid()));
    std::uint16_t instruction = 0;
    TRY(sys::read_remote(init.tid(), RemoteAddress{again.rip}, &instruction, sizeof instruction));
    const std::string directory = std::to_string(init.tid().value);
    TRY(sys::read_file_at(context.proc.get(), directory + "/maps", 1u << 20));
    TRY(sys::open_at(context.proc.get(), directory + "/pagemap", O_RDONLY));
    const UniqueFd pidfd = TRY(sys::pidfd_open(init.tid()));
    TRY(sys::pidfd_get_fd(pidfd.get(), 3));  // its control socket
    return std::string("a non-dumpable task of a child user namespace seized and read");
  });
}

// Says the numbers of three descriptors of a memory file: two that share one description, and one that does not.
void open_descriptors(int socket_fd) {
  const int file = ::memfd_create("probe", MFD_CLOEXEC);
  const int shared = ::fcntl(file, F_DUPFD_CLOEXEC, 0);
  const std::string path = "/proc/self/fd/" + std::to_string(file);
  const int other = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (file < 0 || ::write(file, "mark", 4) != 4) return say_to_prober(socket_fd, -errno);
  for (const int fd : {file, shared, other}) say_to_prober(socket_fd, fd < 0 ? -errno : fd);
  wait_for_prober(socket_fd);
}

Result<std::string> probe_pidfd_getfd(const Context& context) {
  return as_engine(context, [&]() -> Result<std::string> {
    ProbeTask task = TRY(ProbeTask::start(context, ProbeTask::Ids::kIdentity, 0, open_descriptors));
    const std::int64_t file = TRY(task.hear("memfd_create"));
    const UniqueFd pidfd = TRY(sys::pidfd_open(task.tid()));
    const UniqueFd taken = TRY(sys::pidfd_get_fd(pidfd.get(), static_cast<int>(file)));
    char text[4] = {};
    if (::pread(taken.get(), text, sizeof text, 0) != 4 || std::string(text, 4) != "mark") {
      return make_error(Code::kInternal, "the descriptor that was taken is another one");
    }
    return std::string("a descriptor of another task taken");
  });
}

Result<std::string> probe_kcmp(const Context& context) {
  return as_engine(context, [&]() -> Result<std::string> {
    ProbeTask task = TRY(ProbeTask::start(context, ProbeTask::Ids::kIdentity, 0, open_descriptors));
    std::uint64_t fds[3];
    for (std::uint64_t& fd : fds) fd = static_cast<std::uint64_t>(TRY(task.hear("descriptors of a memory file")));
    const bool shared = TRY(sys::same_object(task.tid(), task.tid(), abi::kKcmpFile, fds[0], fds[1]));
    const bool other = TRY(sys::same_object(task.tid(), task.tid(), abi::kKcmpFile, fds[0], fds[2]));
    if (!shared || other) return make_error(Code::kInternal, "kcmp does not tell descriptions apart");
    return std::string("shared and separate descriptions told apart");
  });
}

void have_child(int socket_fd) {
  const pid_t child = ::fork();
  if (child == 0) {
    wait_for_prober(socket_fd);
    ::_exit(0);
  }
  say_to_prober(socket_fd, child < 0 ? -errno : child);
  ::waitpid(child, nullptr, 0);
}

Result<std::string> probe_task_children(const Context& context) {
  return as_engine(context, [&]() -> Result<std::string> {
    ProbeTask task = TRY(ProbeTask::start(context, ProbeTask::Ids::kIdentity, 0, have_child));
    const std::string child = std::to_string(TRY(task.hear("fork")));
    const std::string tid = std::to_string(task.tid().value);
    const std::string listed = TRY(sys::read_file_at(context.proc.get(), tid + "/task/" + tid + "/children", 4096));
    if (listed != child + " ") return make_error(Code::kInternal, "the list of children is \"" + listed + "\"");
    return std::string("/proc/PID/task/TID/children lists a child");
  });
}

// Answers one harmless call with RET_TRACE, as the sandbox's filter does with those that only the engine may make.
void call_through_filter(int socket_fd) {
  sock_filter code[] = {
      {BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(seccomp_data, nr)},
      {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, SYS_getppid},
      {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_TRACE},
      {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
  };
  const sock_fprog program{sizeof code / sizeof code[0], code};
  long result = ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  if (result == 0) result = ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
  say_to_prober(socket_fd, result == 0 ? 0 : -errno);
  // First without a tracer: the prober wants ENOSYS, so it is said as a plain number.
  say_to_prober(socket_fd, ::syscall(SYS_getppid) < 0 ? errno : 0);
  wait_for_prober(socket_fd);
  say_to_prober(socket_fd, ::syscall(SYS_getppid) < 0 ? errno : 0);
}

Result<std::string> probe_seccomp(const Context& context) {
  return as_engine(context, [&]() -> Result<std::string> {
    ProbeTask task = TRY(ProbeTask::start(context, ProbeTask::Ids::kIdentity, 0, call_through_filter));
    TRY(task.hear("seccomp(SECCOMP_SET_MODE_FILTER)"));
    if (TRY(task.hear("the filtered call")) != ENOSYS) {
      return make_error(Code::kInternal, "a call that only a tracer may let pass was not refused");
    }
    TRY(ptrace::seize(task.tid()));
    TRY(task.say(0));
    if (TRY(ptrace::wait_for_stop(task.tid())).kind != ptrace::Stop::Kind::kSeccomp) {
      return make_error(Code::kInternal, "the filter did not stop the call for its tracer");
    }
    TRY(ptrace::resume(task.tid()));
    if (TRY(task.hear("the traced call")) != 0) {
      return make_error(Code::kInternal, "a call that the tracer let pass was refused");
    }
    return std::string("RET_TRACE refuses a call without a tracer and lets it pass with one");
  });
}

}  // namespace

std::vector<Probe> task_probes() {
  return {
      {"ptrace", Topic::kTracing, true, "user-namespaces", probe_ptrace},
      {"ptrace-non-dumpable", Topic::kTracing, true, "init", probe_ptrace_non_dumpable},
      {"pidfd-getfd", Topic::kTracing, true, "user-namespaces", probe_pidfd_getfd},
      {"kcmp", Topic::kTracing, true, "user-namespaces", probe_kcmp},
      {"task-children", Topic::kTracing, true, "user-namespaces", probe_task_children},
      {"seccomp-trace", Topic::kTracing, true, "user-namespaces", probe_seccomp},
  };
}

}  // namespace deltabox::doctor
