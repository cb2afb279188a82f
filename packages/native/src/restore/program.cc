#include "restore/program.h"

#include <linux/prctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "deltacr/address_space.h"
#include "deltacr/memory.h"

namespace deltabox {

namespace {

using parasite::Call;
using parasite::make_call;

constexpr std::uint64_t kRseqUnregister = 1;  // RSEQ_FLAG_UNREGISTER
constexpr std::uint64_t kUserEnd = 1ull << 47;
constexpr std::uint64_t kRoomBehindParasite = 1u << 20;

Result<void> run_calls(HeldProcess& held, std::vector<Call>& calls, const char* operation) {
  for (std::size_t start = 0; start < calls.size(); start += parasite::kMaxCalls) {
    const std::size_t count = std::min(parasite::kMaxCalls, calls.size() - start);
    TRY(held.session.run(held.live->site, std::span(calls).subspan(start, count)));
  }
  for (const Call& call : calls) {
    if (call.result < 0 && call.result > -4096) {
      return os_error_from(static_cast<int>(-call.result), operation, "pid " + std::to_string(held.live->inside.value));
    }
  }
  return {};
}

bool moves(const Mapping& mapping) { return mapping.is_kernel_provided() && mapping.range.end <= kUserEnd; }

// One at a time and through a free place, since the new places may overlap the old ones of others.
Result<void> move_kernel_mappings(HeldProcess& held, const MappingList& present, const MappingList& wanted) {
  std::vector<Call> away;
  std::vector<Call> back;
  std::uint64_t room = parasite_range(*held.live).end + kRoomBehindParasite;
  for (const Mapping& mapping : present) {
    if (!moves(mapping)) continue;
    const auto same =
        std::find_if(wanted.begin(), wanted.end(), [&](const Mapping& other) { return other.name == mapping.name; });
    const std::uint64_t size = mapping.range.size_bytes();
    if (same == wanted.end() || same->range.size_bytes() != size) {
      return make_error(Code::kUnsupported, mapping.name + " of this kernel is not that of the checkpoint");
    }
    constexpr std::uint64_t kHow = MREMAP_MAYMOVE | MREMAP_FIXED;
    away.push_back(make_call(SYS_mremap, mapping.range.start, size, size, kHow, room));
    back.push_back(make_call(SYS_mremap, room, size, size, kHow, same->range.start));
    room += size;
    if (mapping.name == "[vdso]") {
      held.live->site.vdso_syscall =
          RemoteAddress{held.live->site.vdso_syscall.value - mapping.range.start + same->range.start};
    }
  }
  TRY(run_calls(held, away, "moving the vdso"));
  return run_calls(held, back, "moving the vdso");
}

Result<void> set_layout(HeldProcess& held, const ProcessImage& target) {
  const ProgramImage& program = *target.program;
  prctl_mm_map layout{};
  layout.start_code = program.start_code;
  layout.end_code = program.end_code;
  layout.start_data = program.start_data;
  layout.end_data = program.end_data;
  layout.start_brk = program.start_break;
  layout.brk = target.program_break.value;
  layout.start_stack = program.start_stack;
  layout.arg_start = program.arguments.start;
  layout.arg_end = program.arguments.end;
  layout.env_start = program.environment.start;
  layout.env_end = program.environment.end;
  const std::uint64_t buffer = held.live->site.mapping.value + parasite::kBufferOffset;
  layout.auxv = reinterpret_cast<decltype(layout.auxv)>(buffer + sizeof layout);
  layout.auxv_size = static_cast<std::uint32_t>(program.auxiliary_vector.size());
  layout.exe_fd = ~0u;
  std::string bytes(reinterpret_cast<const char*>(&layout), sizeof layout);
  bytes += program.auxiliary_vector;
  TRY(held.session.write_buffer(held.live->site, 0, bytes.data(), bytes.size()));
  std::vector<Call> calls{make_call(SYS_prctl, PR_SET_MM, PR_SET_MM_MAP, buffer, sizeof layout, 0)};
  return run_calls(held, calls, "PR_SET_MM_MAP");
}

}  // namespace

Result<void> execute(parasite::Session& session, RemoteAddress instruction, RemoteAddress scratch,
                     const ProcessImage& target, std::vector<Notice>& not_restored) {
  const abi::RseqConfiguration& rseq = session.rseq();
  if (rseq.rseq_abi_pointer != 0) {
    // Where the exec fails it would point into memory that is about to be unmapped.
    (void)TRY(session.single_call(
        instruction, make_call(SYS_rseq, rseq.rseq_abi_pointer, rseq.rseq_abi_size, kRseqUnregister, rseq.signature)));
  }
  const Result<void> executed = session.exec(instruction, target.program->path, scratch);
  session.abandon();
  if (executed.ok()) return {};
  if (executed.error().code == Code::kTraceeGone || executed.error().code == Code::kInternal) return executed.error();
  not_restored.push_back({target.pid.value, "executable", executed.error().describe()});
  return {};
}

Result<void> clear(HeldProcess& held, const ProcessImage& target, std::vector<Notice>& not_restored) {
  const std::shared_ptr<const MappingList> present = TRY(list_mappings(held.live->files, nullptr));
  const AddressRange parasite = parasite_range(*held.live);
  std::vector<Call> calls{make_call(SYS_close_range, 0, ~0u, 0)};
  for (const Mapping& mapping : *present) {
    if (mapping.is_kernel_provided() || mapping.range == parasite) continue;
    calls.push_back(make_call(SYS_munmap, mapping.range.start, mapping.range.size_bytes()));
  }
  TRY(run_calls(held, calls, "clearing a process"));
  TRY(move_kernel_mappings(held, *present, *target.mappings));
  const Result<void> set = set_layout(held, target);
  if (!set.ok()) not_restored.push_back({target.pid.value, "layout", set.error().describe()});
  return {};
}

}  // namespace deltabox
