// What the kernel keeps of a thread or process beside memory, descriptors and signals, and what a program changes with
// one call each. Plain data.
#pragma once

#include <array>
#include <cstdint>

#include "sys/kernel_abi.h"

namespace deltabox {

// As sched_getattr(2) has it (SCHED_ATTR_SIZE_VER1).
struct KernelScheduling {
  std::uint32_t size_bytes = 0;
  std::uint32_t policy = 0;
  std::uint64_t flags = 0;
  std::int32_t nice = 0;
  std::uint32_t priority = 0;
  std::uint64_t runtime_ns = 0;  // of the fair policies: the slice (6.12)
  std::uint64_t deadline_ns = 0;
  std::uint64_t period_ns = 0;
  std::uint32_t utilization_min = 0;
  std::uint32_t utilization_max = 0;
  bool operator==(const KernelScheduling&) const = default;
};
static_assert(sizeof(KernelScheduling) == 56);

using CpuMask = std::array<std::uint64_t, 16>;  // 1,024 processors; all zero where there are more

struct ThreadAttributes {
  KernelScheduling scheduling;
  CpuMask cpus{};
  std::uint32_t io_priority = 0;          // ioprio_get(2)
  std::uint64_t timer_slack_ns = 0;       // PR_SET_TIMERSLACK
  std::uint32_t parent_death_signal = 0;  // PR_SET_PDEATHSIG
  std::uint32_t personality = 0;
  bool operator==(const ThreadAttributes&) const = default;
};

struct ProcessAttributes {
  std::uint32_t dumpable = 1;  // PR_SET_DUMPABLE
  std::uint32_t child_subreaper = 0;
  std::uint32_t huge_pages_off = 0;  // PR_SET_THP_DISABLE: 1, with its flags above
  std::int32_t oom_score_adjustment = 0;
  std::uint32_t deny_write_execute = 0;  // PR_SET_MDWE and its flags
  bool operator==(const ProcessAttributes&) const = default;
  // Its children and the programs that it executes may have no parasite either.
  bool hands_on_deny() const {
    return (deny_write_execute & abi::kRefuseExecGain) != 0 && (deny_write_execute & abi::kDenyNoInherit) == 0;
  }
};

}  // namespace deltabox
