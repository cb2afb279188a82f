// The layout that the engine and the code inside a tracee share. The code inside decides nothing: it runs a list of
// system calls and stops. It lies in memory that the tracee can write, so it is written afresh before each run, and
// what comes back is checked like any input.
#pragma once

#include <cstddef>
#include <cstdint>

namespace deltabox::parasite {

struct Call {
  std::uint64_t number;
  std::uint64_t arguments[6];
  std::int64_t result;
};
static_assert(sizeof(Call) == 64);
static_assert(offsetof(Call, result) == 56);

// One private mapping of the tracee, code first. MADV_DONTFORK: a child does not inherit it.
inline constexpr std::uint64_t kCodeBytes = 128;
inline constexpr std::uint64_t kCallsOffset = kCodeBytes;
inline constexpr std::size_t kMaxCalls = 254;
inline constexpr std::uint64_t kBufferOffset =
    4 * std::uint64_t{4096};  // behind the calls: results larger than a register
inline constexpr std::uint64_t kBufferBytes = 4 * std::uint64_t{4096};
inline constexpr std::uint64_t kMappingBytes = kBufferOffset + kBufferBytes;
static_assert(kCallsOffset + kMaxCalls * sizeof(Call) <= kBufferOffset);

}  // namespace deltabox::parasite
