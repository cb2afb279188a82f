// A process for tests to freeze, scan and rewrite. It does what it is asked over a pipe and nothing else.
//
//   test ── root (does nothing; the Freezer's root) ── guest ── its children
//
// The guest is a fork of the test, so it needs no program of its own and works under the sanitizers.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "base/ids.h"
#include "base/unique_fd.h"
#include "tracee/freezer.h"

namespace deltabox::test {

enum class Kind : std::uint64_t {
  kSpin,   // counts in its own counter, in user code
  kSleep,  // counts once per millisecond, in nanosleep(2) else
  kChurn,  // a thread that starts and ends children and threads, and counts them
};

class Guest {
 public:
  Guest();
  Guest(const Guest&) = delete;
  Guest& operator=(const Guest&) = delete;
  ~Guest();  // ends root, guest and all of its children

  HostTid root() const { return root_; }
  HostTid pid() const { return pid_; }
  int proc_fd() const { return proc_.get(); }

  // Memory. Addresses are the guest's; 0 lets the kernel choose. All fail the test when the guest's call fails.
  std::uint64_t map(std::uint64_t size_bytes, int protection, std::uint64_t address = 0, int more_flags = 0);
  std::uint64_t map_file(const std::string& path, std::uint64_t size_bytes);  // private, readable and writable
  void unmap(std::uint64_t address, std::uint64_t size_bytes);
  std::uint64_t move(std::uint64_t address, std::uint64_t size_bytes);
  void write(std::uint64_t address, std::uint64_t value);
  std::uint64_t read(std::uint64_t address);
  void discard(std::uint64_t address, std::uint64_t size_bytes);
  void protect(std::uint64_t address, std::uint64_t size_bytes, int protection);
  std::uint64_t grow_break(std::uint64_t size_bytes);  // the old break
  // read(2) of random bytes: a write by the kernel.
  void fill_by_kernel(std::uint64_t address, std::uint64_t size_bytes);

  // Tasks; each counts in its own counter.
  HostTid start_thread(Kind kind, int counter);
  HostTid start_child(Kind kind, int counter, int threads = 0);
  HostTid leave_zombie();
  bool reaps(HostTid child);         // whether the guest's waitpid(2) has it within a second
  void vfork_for(std::uint64_t ms);  // answers at once, then lies in vfork(2) for that long
  void churn(bool on);
  std::uint64_t counter(int index) const { return const_cast<volatile std::uint64_t*>(counters_)[index]; }
  static constexpr int kSignalCounter = 63;  // SIGUSR1 taken by the guest

  bool answers();

 private:
  struct Request;
  std::int64_t ask(const Request& request);
  std::int64_t ask_or_fail(const char* what, const Request& request);

  std::uint64_t* counters_ = nullptr;
  UniqueFd proc_;
  UniqueFd requests_;
  UniqueFd answers_;
  HostTid root_;
  HostTid pid_;
};

// A freeze that tries again while a loaded machine keeps tasks from stopping in time.
Freeze freeze_patiently(Freezer& freezer);

}  // namespace deltabox::test
