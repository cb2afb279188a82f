// Runs system calls inside a frozen thread, as that thread.
//
//   begin: registers kept, all signals blocked, rseq_cs kept
//     run(batch) …                      one stop per batch, whatever its length
//   finish: rseq_cs, mask and registers as they were (or as a rollback wants them)
//
// Why each precaution:
//  - a signal handled inside a run would return into the middle of it, so all signals are blocked but SIGTRAP, by which
//  a
//    run ends (a blocked or ignored SIGTRAP would be reset by the kernel);
//  - returning to user space clears rseq_cs, which the thread may need after its restart;
//  - calls that sleep (nanosleep, poll, futex) would overwrite the thread's restart block and are never run. What
//  sleeps
//    unexpectedly returns after 2 s (patience.h).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "parasite/abi.h"
#include "tracee/ptrace.h"

namespace deltabox::parasite {

// Where a process's parasite lies. The same address in all threads.
struct Site {
  RemoteAddress mapping;       // value 0: not installed
  RemoteAddress vdso_syscall;  // a `syscall` instruction in the vdso, for installing
};

// Finds a `syscall` instruction in the engine's own vdso, which is the same code in every process of this kernel.
Result<std::uint64_t> vdso_syscall_offset();

class Session {
 public:
  static Result<Session> begin(HostTid tid);
  Session(Session&& other) noexcept;
  Session& operator=(Session&& other) noexcept;
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  ~Session();  // finishes with what begin() found

  HostTid tid() const { return tid_; }
  const ptrace::Registers& registers() const { return registers_; }
  ptrace::SignalMask signal_mask() const { return mask_; }
  const abi::RseqConfiguration& rseq() const { return rseq_; }

  // What finish() puts back instead of what begin() found.
  void replace_registers(const ptrace::Registers& registers) { registers_ = registers; }
  void replace_signal_mask(ptrace::SignalMask mask) { mask_ = mask; }
  void keep_rseq_cs_from_memory() { rseq_cs_known_ = false; }
  // A stop that came meanwhile belongs to the state that a rollback replaces.
  void drop_held_stop() { stop_held_ = false; }

  // Maps the parasite at a free address. Registers one mapping in the tracee that images leave out.
  Result<void> install(Site& site, RemoteAddress address);
  // Runs the calls and fills in their results. Fails only when the run itself failed.
  Result<void> run(const Site& site, std::span<Call> calls);
  // The same in two halves, so that several threads run side by side. Threads of one process take slots of the call
  // area that do not overlap. Between the halves nothing else may be asked of this session.
  Result<void> start(const Site& site, std::span<const Call> calls, std::size_t slot = 0);
  Result<void> collect(const Site& site, std::span<Call> calls, std::size_t slot = 0);
  // Reads and writes the buffer behind the calls.
  Result<void> read_buffer(const Site& site, std::uint64_t offset, void* data, std::size_t size_bytes);
  Result<void> write_buffer(const Site& site, std::uint64_t offset, const void* data, std::size_t size_bytes);
  // One call through a `syscall` instruction that exists already.
  Result<std::int64_t> single_call(RemoteAddress instruction, const Call& call);
  // A call of clone(2) or clone3(2), through a `syscall` instruction: a child or thread that is seized and has not run
  // yet.
  Result<HostTid> give_birth(RemoteAddress instruction, const Call& clone);
  // execve(2) through a `syscall` instruction. Path and argument list (a pointer to it, a null) are written at
  // `scratch`, which need not outlive the call. An error of the kernel's leaves the old program; after success the
  // session has nothing to put back and is to be dropped.
  Result<void> exec(RemoteAddress instruction, const std::string& path, RemoteAddress scratch);
  // Makes the thread leave through exit(2); it is gone afterwards.
  Result<void> exit_thread(const Site& site);

  Result<void> finish();
  // The thread is gone; there is nothing to put back.
  void abandon() { active_ = running_ = false; }

 private:
  // True when the stop is none of the run's business and the thread may go on.
  bool is_passing_stop(const ptrace::Stop& stop);
  explicit Session(HostTid tid) : tid_(tid) {}
  // For the next stop of a run; a call that sleeps too long is made to return.
  Result<ptrace::Stop> wait() const;
  Result<void> run_until_trap();
  void place_call(ptrace::Registers& registers, RemoteAddress instruction, const Call& call) const;
  Error unexpected_signal(int signal);

  HostTid tid_;
  bool active_ = false;
  bool running_ = false;  // started and not collected
  bool ran_ = false;
  bool stop_held_ = false;  // a SIGSTOP came during a run
  HostTid born_{};          // by the last clone
  ptrace::Registers registers_{};
  ptrace::SignalMask mask_ = 0;
  abi::RseqConfiguration rseq_{};
  bool rseq_cs_known_ = false;
  std::uint64_t rseq_cs_ = 0;
};

inline Call make_call(long number, std::uint64_t a = 0, std::uint64_t b = 0, std::uint64_t c = 0, std::uint64_t d = 0,
                      std::uint64_t e = 0, std::uint64_t f = 0) {
  return Call{static_cast<std::uint64_t>(number), {a, b, c, d, e, f}, 0};
}

}  // namespace deltabox::parasite
