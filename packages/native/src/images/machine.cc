#include "images/machine.h"

#include <cpuid.h>
#include <elf.h>
#include <sys/auxv.h>
#include <sys/utsname.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace deltabox {

namespace {

// The ELF image that the kernel maps: up to the end of its section headers, which lie last.
std::uint64_t hash_of_vdso() {
  const auto* start = reinterpret_cast<const std::byte*>(::getauxval(AT_SYSINFO_EHDR));
  if (start == nullptr) return 0;
  const auto* header = reinterpret_cast<const Elf64_Ehdr*>(start);
  return XXH3_64bits(start, header->e_shoff + std::size_t{header->e_shnum} * header->e_shentsize);
}

}  // namespace

Result<Machine> this_machine() {
  Machine machine;
  utsname names{};
  if (::uname(&names) != 0) return os_error("uname");
  machine.kernel = std::string(names.release) + " " + names.version;
  machine.vdso_hash = hash_of_vdso();
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid_count(0xd, 0, &eax, &ebx, &ecx, &edx) != 0) {
    machine.xstate_mask = std::uint64_t{edx} << 32 | eax;
    machine.xstate_bytes = ebx;
  }
  return machine;
}

std::string machine_difference(const Machine& written, const Machine& here) {
  if (written.image_layout != here.image_layout) return "another version of DeltaBox wrote it";
  if (written.kernel != here.kernel) {
    return "it was written under kernel " + written.kernel + ", this is " + here.kernel;
  }
  if (written.vdso_hash != here.vdso_hash) return "the kernel's vdso is another one";
  if (written.xstate_mask != here.xstate_mask || written.xstate_bytes != here.xstate_bytes) {
    return "the processor has other registers";
  }
  return {};
}

}  // namespace deltabox
