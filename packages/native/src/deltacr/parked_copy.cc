#include "deltacr/parked_copy.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include "parasite/maker.h"
#include "sys/files.h"
#include "tracee/proc_files.h"

namespace deltabox {

namespace {

constexpr std::uint64_t kMinParkedBytes = 16u << 20;  // a fork costs as much as copying about so much
constexpr std::uint64_t kMinMappingBytes = 1u << 20;  // less of one mapping is copied with the rest
constexpr std::uint64_t kAddressSpaceEnd = 0x7fff'ffff'f000;
constexpr int kSampledPages = 8;
constexpr std::uint64_t kHasContents = std::uint64_t{3} << 62;  // of an entry of pagemap: present, swapped out

// By way of one in between, which is gone afterwards. That one shares the memory, so that it is forked once; a tracer
// may have it made, by clone3(2), where the sandbox's filter refuses it to the tasks.
Result<HostTid> make_grandchild(int proc_fd, parasite::Session& session, const parasite::Site& site) {
  const RemoteAddress instruction = site.vdso_syscall;
  clone_args arguments{};
  arguments.flags = CLONE_VM | CLONE_FS | CLONE_FILES;  // and no signal at its end
  TRY(session.write_buffer(site, 0, &arguments, sizeof arguments));
  const RemoteAddress place = site.mapping + parasite::kBufferOffset;
  const HostTid between =
      TRY(session.give_birth(instruction, parasite::make_call(SYS_clone3, place.value, sizeof arguments)));
  const auto make = [&]() -> Result<HostTid> {
    parasite::Session middle = TRY(parasite::Session::begin(between));
    Result<HostTid> made = middle.give_birth(instruction, parasite::make_call(SYS_clone, 0));
    middle.abandon();
    return made;
  };
  const Result<TaskStatus> status = task_status(proc_fd, between);
  Result<HostTid> made = make();
  end_task(between);
  if (!status.ok()) return status.error();
  TRY(reap({&session, instruction}, status.value().inside));
  return made;
}

Result<void> checked_call(parasite::Session& session, RemoteAddress instruction, const parasite::Call& call,
                          const char* name) {
  const std::int64_t result = TRY(session.single_call(instruction, call));
  return result < 0 ? Result<void>(os_error_from(static_cast<int>(-result), name)) : Result<void>();
}

// Leaves it nothing but `kept` and the vdso.
Result<void> strip(parasite::Session& session, RemoteAddress instruction, AddressRange vdso,
                   std::span<const AddressRange> kept) {
  TRY(checked_call(session, instruction, parasite::make_call(SYS_close_range, 0, ~0u, 0), "close_range in a copy"));
  std::vector<AddressRange> stays(kept.begin(), kept.end());
  stays.push_back(vdso);
  std::sort(stays.begin(), stays.end(), [](const AddressRange& a, const AddressRange& b) { return a.start < b.start; });
  std::uint64_t start = 0;
  for (const AddressRange& range : stays) {
    if (range.start > start) {
      TRY(checked_call(session, instruction, parasite::make_call(SYS_munmap, start, range.start - start),
                       "munmap in a copy"));
    }
    start = range.end;
  }
  return checked_call(session, instruction, parasite::make_call(SYS_munmap, start, kAddressSpaceEnd - start),
                      "munmap in a copy");
}

// Should its tracer die, it goes on, and that must be its end.
void end_when_it_runs(parasite::Session& session, RemoteAddress instruction) {
  ptrace::Registers registers = session.registers();
  registers.orig_rax = static_cast<unsigned long long>(-1);
  registers.rip = instruction.value;
  registers.rax = SYS_exit_group;
  registers.rdi = 0;
  session.replace_registers(registers);
}

}  // namespace

std::vector<AddressRange> mappings_to_park(const MappingList& mappings, const std::vector<ChangedRun>& runs) {
  std::vector<AddressRange> found;
  std::uint64_t total_bytes = 0;
  std::size_t next = 0;
  for (const Mapping& mapping : mappings) {
    std::uint64_t bytes = 0;
    while (next < runs.size() && runs[next].range.start < mapping.range.start) ++next;
    for (; next < runs.size() && runs[next].range.end <= mapping.range.end; ++next) {
      if (!runs[next].dropped) bytes += runs[next].range.size_bytes();
    }
    if (mapping.has_file() || !mapping.is_private_memory() || bytes < kMinMappingBytes) continue;
    found.push_back(mapping.range);
    total_bytes += bytes;
  }
  if (total_bytes < kMinParkedBytes) found.clear();
  return found;
}

Result<ParkedCopy> ParkedCopy::make(int proc_fd, parasite::Session& session, const parasite::Site& site,
                                    AddressRange vdso, std::span<const AddressRange> kept) {
  ParkedCopy copy(TRY(make_grandchild(proc_fd, session, site)));
  parasite::Session own = TRY(parasite::Session::begin(copy.pid_));
  TRY(strip(own, site.vdso_syscall, vdso, kept));
  end_when_it_runs(own, site.vdso_syscall);
  TRY(own.finish());
  // When memory runs out, the first to go is the one that can be taken again.
  const Result<UniqueFd> score = sys::open_at(proc_fd, std::to_string(copy.pid_.value) + "/oom_score_adj", O_WRONLY);
  if (score.ok()) (void)!::write(score.value().get(), "1000", 4);
  return copy;
}

ParkedCopy::~ParkedCopy() {
  if (pid_.value != 0) end_task(pid_);
}

Result<std::vector<AddressRange>> inherited(int proc_fd, const ParkedCopy& copy, std::vector<AddressRange> ranges,
                                            const std::vector<ChangedRun>& runs) {
  const UniqueFd pagemap = TRY(sys::open_at(proc_fd, std::to_string(copy.pid().value) + "/pagemap", O_RDONLY));
  const auto has_contents = [&](std::uint64_t address) {
    std::uint64_t entry = 0;
    const auto offset = static_cast<off_t>((address >> kPageShift) * sizeof entry);
    return ::pread(pagemap.get(), &entry, sizeof entry, offset) == sizeof entry && (entry & kHasContents) != 0;
  };
  std::erase_if(ranges, [&](const AddressRange& range) {
    int sampled = 0;
    for (const ChangedRun& run : runs) {
      if (run.dropped || run.range.start < range.start || run.range.end > range.end) continue;
      // A changed page may be a hole by now; that all of several are holes is possible and only costs a copy.
      if (has_contents(run.range.start)) return false;
      if (++sampled == kSampledPages) break;
    }
    return true;
  });
  return ranges;
}

}  // namespace deltabox
