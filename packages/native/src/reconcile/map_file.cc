#include "reconcile/map_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>

#include "reconcile/descriptor_io.h"
#include "sys/files.h"

namespace deltabox {

using parasite::Call;
using parasite::make_call;

namespace {

// The segment may live on, attached elsewhere or nowhere; its inode number is its id.
Result<std::optional<Error>> attach_segment(HeldProcess& held, const MapRange& part) {
  const Mapping& mapping = part.mapping;
  if (mapping.file_offset != 0 || !(part.range == mapping.range)) {
    return std::optional<Error>(make_error(Code::kUnsupported, "only a part of the segment was attached"));
  }
  const int flags = SHM_REMAP | ((mapping.protection & PROT_WRITE) == 0 ? SHM_RDONLY : 0) |
                    ((mapping.protection & PROT_EXEC) != 0 ? SHM_EXEC : 0);
  Call call = make_call(SYS_shmat, mapping.inode, part.range.start, static_cast<std::uint64_t>(flags));
  TRY(held.session.run(held.live->site, {&call, 1}));
  if (call.result < 0 && call.result > -4096) {
    return std::optional<Error>(os_error_from(static_cast<int>(-call.result), "shmat"));
  }
  return std::optional<Error>();
}

}  // namespace

Result<std::optional<Error>> map_anew(HeldProcess& held, const MapRange& part, int m1_root, int free_slot,
                                      RevivedFiles& revived) {
  const Mapping& mapping = part.mapping;
  std::uint64_t flags = MAP_FIXED | (mapping.shared ? MAP_SHARED : MAP_PRIVATE);
  std::uint64_t fd = static_cast<std::uint64_t>(-1);
  std::uint64_t offset = 0;
  if (mapping.has_file()) {
    // Opening for writing copies the file up, so that the mapping and later writers have one inode.
    const bool writes = mapping.shared && (mapping.in_writable_layer || (mapping.protection & PROT_WRITE) != 0);
    if (mapping.shared_object != 0) {
      if (mapping.is_system_v()) return attach_segment(held, part);
      const int memory = revived.memory(mapping.shared_object);
      if (memory < 0) return make_error(Code::kInternal, "shared memory that has to be mapped has no descriptor");
      TRY(install_descriptors(held, {{memory, free_slot, true}}, false));
    } else if (mapping.shared && mapping.volume >= 0 && mapping.is_deleted()) {
      const int file = TRY(revived.file(mapping.device, mapping.inode));
      TRY(install_descriptors(held, {{file, free_slot, true}}, false));
    } else {
      Result<UniqueFd> file = sys::open_in_root(m1_root, mapping.name, writes ? O_RDWR : O_RDONLY);
      if (!file.ok()) return std::optional<Error>(file.release_error());
      TRY(install_descriptors(held, {{file.value().get(), free_slot, true}}, false));
    }
    fd = static_cast<std::uint64_t>(free_slot);
    offset = mapping.file_offset + (part.range.start - mapping.range.start);
  } else {
    flags |= MAP_ANONYMOUS;
    if (mapping.protection == PROT_NONE) flags |= MAP_NORESERVE;
  }
  Call calls[2] = {make_call(SYS_mmap, part.range.start, part.range.size_bytes(),
                             static_cast<std::uint64_t>(mapping.protection), flags, fd, offset),
                   make_call(SYS_close, fd)};
  TRY(held.session.run(held.live->site, std::span(calls, mapping.has_file() ? 2 : 1)));
  if (calls[0].result < 0) {
    return os_error_from(static_cast<int>(-calls[0].result), "mmap in a tracee",
                         "pid " + std::to_string(held.live->inside.value));
  }
  return std::optional<Error>();
}

int free_slot_of(const ProcessImage& process) {
  return process.descriptors.empty() ? 0 : process.descriptors.back().fd + 1;
}

Result<void> move_shared_mappings(HeldProcess& held, const ProcessImage& process, const std::set<int>& switched,
                                  int m1_root, RevivedFiles& revived) {
  for (const Mapping& mapping : *process.mappings) {
    if (!mapping.shared || !switched.contains(mapping.volume)) continue;
    std::optional<Error> failed =
        TRY(map_anew(held, MapRange{mapping.range, mapping}, m1_root, free_slot_of(process), revived));
    if (failed) return std::move(*failed);
  }
  return {};
}

}  // namespace deltabox
