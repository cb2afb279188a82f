// Strong types for numbers that must not be mixed up: a tid is not a pid inside, a remote address is not a pointer.
#pragma once

#include <sys/types.h>

#include <compare>
#include <cstdint>

namespace deltabox {

inline constexpr std::uint64_t kPageSize = 4096;
inline constexpr std::uint64_t kPageShift = 12;

// A task as the engine's pid namespace names it. `inside` ids are what the sandbox sees.
struct HostTid {
  pid_t value = 0;
  auto operator<=>(const HostTid&) const = default;
};
struct InsidePid {
  pid_t value = 0;
  auto operator<=>(const InsidePid&) const = default;
};

// An address in a tracee. There is no conversion to a local pointer.
struct RemoteAddress {
  std::uint64_t value = 0;
  auto operator<=>(const RemoteAddress&) const = default;
  RemoteAddress operator+(std::uint64_t offset) const { return {value + offset}; }
};

// Half-open range of addresses in a tracee, page aligned.
struct AddressRange {
  std::uint64_t start = 0;
  std::uint64_t end = 0;
  auto operator<=>(const AddressRange&) const = default;
  std::uint64_t size_bytes() const { return end - start; }
  std::uint64_t page_count() const { return (end - start) >> kPageShift; }
  bool contains(std::uint64_t address) const { return address >= start && address < end; }
};

}  // namespace deltabox
