#include "parasite/session.h"

#include <elf.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <string>
#include <utility>

#include "parasite/patience.h"
#include "sys/processes.h"

extern "C" const char deltabox_blob_start[];
extern "C" const char deltabox_blob_end[];

namespace deltabox::parasite {

namespace {

constexpr ptrace::SignalMask kAllButTrap = ~(ptrace::SignalMask{1} << (SIGTRAP - 1));
constexpr std::uint64_t kRseqCsOffset = 8;  // struct rseq: cpu_id_start, cpu_id, rseq_cs
constexpr int kMaxStops = 64;               // interrupts and seccomp stops that may come before a run's own trap

std::string name_of(HostTid tid) { return "tid " + std::to_string(tid.value); }

RemoteAddress call_place(const Site& site, std::size_t slot) {
  return site.mapping + (kCallsOffset + slot * sizeof(Call));
}

}  // namespace

Result<std::uint64_t> vdso_syscall_offset() {
  const auto* base = reinterpret_cast<const unsigned char*>(::getauxval(AT_SYSINFO_EHDR));
  if (base == nullptr) return make_error(Code::kUnsupportedKernel, "this kernel maps no vdso");
  const auto* header = reinterpret_cast<const Elf64_Ehdr*>(base);
  const auto* segments = reinterpret_cast<const Elf64_Phdr*>(base + header->e_phoff);
  for (int index = 0; index < header->e_phnum; ++index) {
    if (segments[index].p_type != PT_LOAD) continue;
    for (std::uint64_t offset = 0; offset + 1 < segments[index].p_filesz; ++offset) {
      const unsigned char* code = base + segments[index].p_offset + offset;
      if (code[0] == 0x0f && code[1] == 0x05) return static_cast<std::uint64_t>(code - base);
    }
  }
  return make_error(Code::kUnsupportedKernel, "the vdso has no syscall instruction");
}

Result<Session> Session::begin(HostTid tid) {
  Session session(tid);
  session.registers_ = TRY(ptrace::registers(tid));
  session.mask_ = TRY(ptrace::signal_mask(tid));
  session.rseq_ = TRY(ptrace::rseq_configuration(tid));
  if (session.rseq_.rseq_abi_pointer != 0) {
    // A thread may have unmapped its rseq area; then there is nothing to keep.
    session.rseq_cs_known_ = sys::read_remote(tid, RemoteAddress{session.rseq_.rseq_abi_pointer + kRseqCsOffset},
                                              &session.rseq_cs_, sizeof session.rseq_cs_)
                                 .ok();
  }
  TRY(ptrace::set_signal_mask(tid, kAllButTrap));
  session.active_ = true;
  return session;
}

Session::Session(Session&& other) noexcept
    : tid_(other.tid_),
      active_(std::exchange(other.active_, false)),
      running_(std::exchange(other.running_, false)),
      ran_(other.ran_),
      stop_held_(other.stop_held_),
      born_(other.born_),
      registers_(other.registers_),
      mask_(other.mask_),
      rseq_(other.rseq_),
      rseq_cs_known_(other.rseq_cs_known_),
      rseq_cs_(other.rseq_cs_) {}

Session& Session::operator=(Session&& other) noexcept {
  if (this != &other) {
    (void)finish();
    tid_ = other.tid_;
    active_ = std::exchange(other.active_, false);
    running_ = std::exchange(other.running_, false);
    ran_ = other.ran_;
    stop_held_ = other.stop_held_;
    born_ = other.born_;
    registers_ = other.registers_;
    mask_ = other.mask_;
    rseq_ = other.rseq_;
    rseq_cs_known_ = other.rseq_cs_known_;
    rseq_cs_ = other.rseq_cs_;
  }
  return *this;
}

Session::~Session() { (void)finish(); }

Result<void> Session::finish() {
  if (!active_) return {};
  active_ = false;
  // A run that nobody collected, for another's sake: it has to end before anything can be put back.
  if (std::exchange(running_, false)) TRY(run_until_trap());
  if (ran_ && rseq_cs_known_ && rseq_cs_ != 0) {
    TRY(sys::write_remote(tid_, RemoteAddress{rseq_.rseq_abi_pointer + kRseqCsOffset}, &rseq_cs_, sizeof rseq_cs_));
  }
  TRY(ptrace::set_registers(tid_, registers_));
  TRY(ptrace::set_signal_mask(tid_, mask_));
  if (stop_held_ && ::syscall(SYS_tkill, tid_.value, SIGSTOP) != 0) return os_error("tkill", name_of(tid_));
  return {};
}

// Passing: the interrupt that froze it, a group stop, a call that only we may make, and SIGSTOP, which nothing can
// block.
bool Session::is_passing_stop(const ptrace::Stop& stop) {
  if (stop.kind != ptrace::Stop::Kind::kSignal) return true;
  if (stop.signal != SIGSTOP) return false;
  stop_held_ = true;
  return true;
}

// Says where the thread was and what it touched: such a signal is a defect, and this is all there will be to find it
// by.
Error Session::unexpected_signal(int signal) {
  std::string text = "signal " + std::to_string(signal) + " inside a run of " + name_of(tid_);
  const Result<siginfo_t> info = ptrace::signal_info(tid_);
  const Result<ptrace::Registers> registers = ptrace::registers(tid_);
  char detail[160];
  if (info.ok() && registers.ok()) {
    std::snprintf(detail, sizeof detail, " (code %d, address %p, rip %#llx, r12 %#llx, r13 %llu, rax %#llx)",
                  info.value().si_code, info.value().si_addr, registers.value().rip, registers.value().r12,
                  registers.value().r13, registers.value().rax);
    text += detail;
  }
  return make_error(Code::kInternal, text);
}

Result<ptrace::Stop> Session::wait() const {
  constexpr std::int64_t kRestartFirst = -516;  // ERESTARTSYS and its like, which only a tracer sees
  constexpr std::int64_t kRestartLast = -512;
  const Patience patience(tid_);
  const ptrace::Stop stop = TRY(ptrace::wait_for_stop(tid_));
  if (!patience.has_ended() || stop.kind != ptrace::Stop::Kind::kInterrupted) return stop;
  // The kernel would begin the call anew.
  ptrace::Registers registers = TRY(ptrace::registers(tid_));
  const auto result = static_cast<std::int64_t>(registers.rax);
  if (result < kRestartFirst || result > kRestartLast) return stop;
  registers.rax = static_cast<unsigned long long>(-EINTR);
  registers.orig_rax = static_cast<unsigned long long>(-1);
  TRY(ptrace::set_registers(tid_, registers));
  return stop;
}

Result<void> Session::run_until_trap() {
  for (int stops = 0; stops < kMaxStops; ++stops) {
    const ptrace::Stop stop = TRY(wait());
    if (stop.kind == ptrace::Stop::Kind::kGone) return os_error_from(ESRCH, "parasite run", name_of(tid_));
    if (is_passing_stop(stop)) {
      TRY(ptrace::resume(tid_));
      continue;
    }
    if (stop.signal == SIGTRAP) return {};
    return unexpected_signal(stop.signal);
  }
  return make_error(Code::kInternal, "a run of " + name_of(tid_) + " does not end");
}

namespace {

// Registers for code of ours: no system call to restart, interrupts and single-step off, the stack pointer untouched.
ptrace::Registers fresh_registers(const ptrace::Registers& original) {
  ptrace::Registers registers = original;
  registers.orig_rax = static_cast<unsigned long long>(-1);
  registers.eflags &= ~0x500ull;  // trap and direction flags
  return registers;
}

}  // namespace

void Session::place_call(ptrace::Registers& registers, RemoteAddress instruction, const Call& call) const {
  registers = fresh_registers(registers_);
  registers.rip = instruction.value;
  registers.rax = call.number;
  registers.rdi = call.arguments[0];
  registers.rsi = call.arguments[1];
  registers.rdx = call.arguments[2];
  registers.r10 = call.arguments[3];
  registers.r8 = call.arguments[4];
  registers.r9 = call.arguments[5];
}

Result<std::int64_t> Session::single_call(RemoteAddress instruction, const Call& call) {
  ptrace::Registers registers{};
  place_call(registers, instruction, call);
  TRY(ptrace::set_registers(tid_, registers));
  for (int stops = 0; stops < kMaxStops; ++stops) {
    ran_ = true;
    TRY(ptrace::single_step(tid_));
    const ptrace::Stop stop = TRY(wait());
    if (stop.kind == ptrace::Stop::Kind::kGone) return os_error_from(ESRCH, "single step", name_of(tid_));
    if (stop.kind == ptrace::Stop::Kind::kBirth) born_ = TRY(ptrace::born(tid_));
    // After an interrupted call, too: the step's own trap is pending then.
    if (is_passing_stop(stop)) continue;
    if (stop.signal != SIGTRAP) return make_error(Code::kInternal, "a signal inside a single step of " + name_of(tid_));
    registers = TRY(ptrace::registers(tid_));
    if (registers.rip != instruction.value) return static_cast<std::int64_t>(registers.rax);
  }
  return make_error(Code::kInternal, "a single step of " + name_of(tid_) + " does not end");
}

Result<HostTid> Session::give_birth(RemoteAddress instruction, const Call& clone) {
  born_ = HostTid{0};
  TRY(ptrace::trace_births(tid_, true));
  const Result<std::int64_t> made = single_call(instruction, clone);
  TRY(ptrace::trace_births(tid_, false));
  if (!made.ok()) return made.error();
  if (made.value() < 0) return os_error_from(static_cast<int>(-made.value()), "clone in a tracee", name_of(tid_));
  const ptrace::Stop stop = TRY(ptrace::wait_for_stop(born_));
  if (stop.kind != ptrace::Stop::Kind::kInterrupted) {
    return make_error(Code::kInternal, "the child of " + name_of(tid_) + " did not stand still at its birth");
  }
  TRY(ptrace::trace_births(born_, false));
  return born_;
}

Result<void> Session::exec(RemoteAddress instruction, const std::string& path, RemoteAddress scratch) {
  struct {
    std::uint64_t arguments[2];
  } area{{scratch.value + sizeof area, 0}};
  std::string bytes(reinterpret_cast<const char*>(&area), sizeof area);
  bytes.append(path.c_str(), path.size() + 1);
  TRY(sys::write_remote(tid_, scratch, bytes.data(), bytes.size()));
  const std::uint64_t null_pointer = scratch.value + offsetof(decltype(area), arguments) + sizeof(std::uint64_t);
  ptrace::Registers registers{};
  place_call(registers, instruction, make_call(SYS_execve, area.arguments[0], scratch.value, null_pointer));
  TRY(ptrace::trace_births(tid_, true));
  TRY(ptrace::set_registers(tid_, registers));
  ran_ = true;
  for (int stops = 0; stops < kMaxStops; ++stops) {
    TRY(ptrace::single_step(tid_));
    const ptrace::Stop stop = TRY(wait());
    if (stop.kind == ptrace::Stop::Kind::kGone) return os_error_from(ESRCH, "exec", name_of(tid_));
    if (stop.kind == ptrace::Stop::Kind::kExec) {
      // Here the call has not returned yet, and would overwrite registers that are set now.
      active_ = false;
      TRY(ptrace::trace_births(tid_, false));
      TRY(ptrace::interrupt(tid_));
      TRY(ptrace::resume(tid_));
      const ptrace::Stop returned = TRY(wait());
      if (returned.kind == ptrace::Stop::Kind::kInterrupted) return {};
      return make_error(Code::kInternal, name_of(tid_) + " did not stop after its exec");
    }
    if (is_passing_stop(stop)) continue;
    TRY(ptrace::trace_births(tid_, false));
    registers = TRY(ptrace::registers(tid_));
    return os_error_from(static_cast<int>(-static_cast<std::int64_t>(registers.rax)), "execve in a tracee", path);
  }
  return make_error(Code::kInternal, "an exec of " + name_of(tid_) + " does not end");
}

Result<void> Session::install(Site& site, RemoteAddress address) {
  const Call map = make_call(SYS_mmap, address.value, kMappingBytes, PROT_READ | PROT_WRITE | PROT_EXEC,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, static_cast<std::uint64_t>(-1), 0);
  const std::int64_t mapped = TRY(single_call(site.vdso_syscall, map));
  if (mapped < 0) return os_error_from(static_cast<int>(-mapped), "mmap in a tracee", name_of(tid_));
  site.mapping = RemoteAddress{static_cast<std::uint64_t>(mapped)};
  Call advice = make_call(SYS_madvise, site.mapping.value, kMappingBytes, MADV_DONTFORK);
  return run(site, {&advice, 1});
}

Result<void> Session::run(const Site& site, std::span<Call> calls) {
  if (calls.empty()) return {};
  TRY(start(site, calls));
  return collect(site, calls);
}

Result<void> Session::start(const Site& site, std::span<const Call> calls, std::size_t slot) {
  if (running_) return make_error(Code::kInternal, "a run of " + name_of(tid_) + " has not been collected");
  if (calls.empty() || slot + calls.size() > kMaxCalls) {
    return make_error(Code::kInternal, "no or too many calls in one run");
  }
  const std::size_t code_bytes = static_cast<std::size_t>(deltabox_blob_end - deltabox_blob_start);
  const RemoteAddress place = call_place(site, slot);
  const iovec local[2] = {{const_cast<char*>(deltabox_blob_start), code_bytes},
                          {const_cast<Call*>(calls.data()), calls.size_bytes()}};
  const iovec remote[2] = {{reinterpret_cast<void*>(site.mapping.value), code_bytes},
                           {reinterpret_cast<void*>(place.value), calls.size_bytes()}};
  TRY(sys::write_remote_ranges(tid_, local, remote));
  ptrace::Registers registers = fresh_registers(registers_);
  registers.rip = site.mapping.value;
  registers.rdi = place.value;
  registers.rsi = calls.size();
  TRY(ptrace::set_registers(tid_, registers));
  TRY(ptrace::resume(tid_));
  ran_ = true;
  running_ = true;
  return {};
}

Result<void> Session::collect(const Site& site, std::span<Call> calls, std::size_t slot) {
  running_ = false;
  TRY(run_until_trap());
  const std::size_t code_bytes = static_cast<std::size_t>(deltabox_blob_end - deltabox_blob_start);
  const ptrace::Registers registers = TRY(ptrace::registers(tid_));
  if (registers.rip != site.mapping.value + code_bytes || registers.r13 != 0) {
    return make_error(Code::kInternal, "a run of " + name_of(tid_) + " ended elsewhere");
  }
  return sys::read_remote(tid_, call_place(site, slot), calls.data(), calls.size_bytes());
}

Result<void> Session::read_buffer(const Site& site, std::uint64_t offset, void* data, std::size_t size_bytes) {
  if (offset + size_bytes > kBufferBytes) return make_error(Code::kInternal, "parasite buffer exceeded");
  return sys::read_remote(tid_, site.mapping + (kBufferOffset + offset), data, size_bytes);
}

Result<void> Session::write_buffer(const Site& site, std::uint64_t offset, const void* data, std::size_t size_bytes) {
  if (offset + size_bytes > kBufferBytes) return make_error(Code::kInternal, "parasite buffer exceeded");
  return sys::write_remote(tid_, site.mapping + (kBufferOffset + offset), data, size_bytes);
}

Result<void> Session::exit_thread(const Site& site) {
  Call leave = make_call(SYS_exit, 0);
  const Result<void> ran = run(site, {&leave, 1});
  active_ = false;  // nothing is left to put back
  if (ran.ok()) return make_error(Code::kInternal, name_of(tid_) + " did not exit");
  return ran.error().code == Code::kTraceeGone ? Result<void>() : Result<void>(ran.error());
}

}  // namespace deltabox::parasite
