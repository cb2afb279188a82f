// What an image of processes depends on beside itself: the kernel, whose calls and vdso the program text was made for,
// and the processor, whose registers it holds; and the engine that wrote it.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"

namespace deltabox {

// Of how an image lies on the disk (image_archive.cc). One more with every change there.
inline constexpr std::uint32_t kImageLayout = 8;

struct Machine {
  std::uint32_t image_layout = kImageLayout;
  std::string kernel;           // release and version, as of uname(2)
  std::uint64_t vdso_hash = 0;  // XXH3, of its mapping
  std::uint64_t xstate_bytes = 0;
  std::uint64_t xstate_mask = 0;  // XCR0: which parts the registers' state has
  bool operator==(const Machine&) const = default;
};

Result<Machine> this_machine();

// What differs, as a sentence; empty when nothing does. Pure.
std::string machine_difference(const Machine& written, const Machine& here);

}  // namespace deltabox
