#include "reconcile/map_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>

#include <cerrno>
#include <map>
#include <string>

#include "reconcile/descriptor_io.h"
#include "sys/files.h"
#include "sys/sockets.h"

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

// One descriptor serves all parts of a file.
struct FileToMap {
  std::string name;
  bool writes = false;
  std::uint64_t deleted_device = 0;  // a deleted file: which
  std::uint64_t deleted_inode = 0;
  SharedObjectId memory = 0;  // shared memory: which
  auto operator<=>(const FileToMap&) const = default;
};

FileToMap file_of(const Mapping& mapping) {
  if (mapping.shared_object != 0) return {"", true, 0, 0, mapping.shared_object};
  if (mapping.shared && mapping.volume >= 0 && mapping.is_deleted())
    return {"", true, mapping.device, mapping.inode, 0};
  // Opening for writing copies the file up, so that the mapping and later writers have one inode.
  const bool writes = mapping.shared && (mapping.in_writable_layer || (mapping.protection & PROT_WRITE) != 0);
  return {mapping.name, writes, 0, 0, 0};
}

Result<UniqueFd> open_file(const FileToMap& file, int m1_root, RevivedFiles& revived) {
  if (file.memory != 0) {
    const int memory = revived.memory(file.memory);
    if (memory < 0) return make_error(Code::kInternal, "shared memory that has to be mapped has no descriptor");
    return sys::duplicate(memory);
  }
  if (file.deleted_inode != 0) return sys::duplicate(TRY(revived.file(file.deleted_device, file.deleted_inode)));
  return sys::open_in_root(m1_root, file.name, file.writes ? O_RDWR : O_RDONLY);
}

constexpr std::size_t kMapFlags = 3;  // which argument of mmap(2) they are

Call map_call(const MapRange& part, int fd) {
  const Mapping& mapping = part.mapping;
  std::uint64_t flags = MAP_FIXED | (mapping.shared ? MAP_SHARED : MAP_PRIVATE);
  if (!mapping.has_file()) flags |= MAP_ANONYMOUS;
  if (!mapping.has_file() && mapping.protection == PROT_NONE) flags |= MAP_NORESERVE;
  if (mapping.name == "[stack]") flags |= MAP_GROWSDOWN;
  return make_call(SYS_mmap, part.range.start, part.range.size_bytes(), static_cast<std::uint64_t>(mapping.protection),
                   flags, static_cast<std::uint64_t>(fd),
                   mapping.file_offset + (part.range.start - mapping.range.start));
}

Result<void> run_maps(HeldProcess& held, std::vector<Call>& calls) {
  for (std::size_t start = 0; start < calls.size(); start += parasite::kMaxCalls) {
    const std::size_t count = std::min(parasite::kMaxCalls, calls.size() - start);
    TRY(held.session.run(held.live->site, std::span(calls).subspan(start, count)));
  }
  // The kernel does not tell cheaply whether a mapping was made with MAP_NORESERVE. One larger than the machine's
  // memory (a sanitizer's, say) was, and is refused without.
  std::vector<Call> again;
  std::vector<std::size_t> refused;
  for (std::size_t index = 0; index < calls.size(); ++index) {
    if (calls[index].result != -ENOMEM || (calls[index].arguments[kMapFlags] & MAP_NORESERVE) != 0) continue;
    again.push_back(calls[index]);
    again.back().arguments[kMapFlags] |= MAP_NORESERVE;
    refused.push_back(index);
  }
  for (std::size_t start = 0; start < again.size(); start += parasite::kMaxCalls) {
    const std::size_t count = std::min(parasite::kMaxCalls, again.size() - start);
    TRY(held.session.run(held.live->site, std::span(again).subspan(start, count)));
  }
  for (std::size_t index = 0; index < again.size(); ++index) calls[refused[index]] = again[index];
  for (const Call& call : calls) {
    if (call.result < 0 && call.result > -4096) {
      return os_error_from(static_cast<int>(-call.result), "mmap in a tracee",
                           "pid " + std::to_string(held.live->inside.value));
    }
  }
  return {};
}

}  // namespace

Result<std::vector<UnmappedPart>> map_anew(HeldProcess& held, const std::vector<MapRange>& parts, int m1_root,
                                           int free_slot, RevivedFiles& revived) {
  std::vector<UnmappedPart> failed;
  std::vector<Call> anonymous;
  std::map<FileToMap, std::vector<const MapRange*>> by_file;
  for (const MapRange& part : parts) {
    if (part.mapping.is_system_v()) {
      if (std::optional<Error> refused = TRY(attach_segment(held, part))) failed.push_back({part, std::move(*refused)});
    } else if (part.mapping.has_file()) {
      by_file[file_of(part.mapping)].push_back(&part);
    } else {
      anonymous.push_back(map_call(part, -1));
    }
  }
  TRY(run_maps(held, anonymous));
  for (auto next = by_file.begin(); next != by_file.end();) {
    // As many files at a time as travel in one message.
    std::vector<UniqueFd> files;
    std::vector<Install> installs;
    std::vector<Call> calls;
    for (; next != by_file.end() && files.size() < sys::kMaxFdsPerMessage; ++next) {
      Result<UniqueFd> file = open_file(next->first, m1_root, revived);
      if (!file.ok()) {
        for (const MapRange* part : next->second) failed.push_back({*part, file.error()});
        continue;
      }
      const int slot = free_slot + static_cast<int>(files.size());
      installs.push_back({file.value().get(), slot, true});
      files.push_back(file.release_value());
      for (const MapRange* part : next->second) calls.push_back(map_call(*part, slot));
    }
    for (const Install& install : installs) {
      calls.push_back(make_call(SYS_close, static_cast<std::uint64_t>(install.slot)));
    }
    TRY(install_descriptors(held, installs, false));
    TRY(run_maps(held, calls));
  }
  return failed;
}

int free_slot_of(const ProcessImage& process) {
  return process.descriptors.empty() ? 0 : process.descriptors.back().fd + 1;
}

Result<void> move_shared_mappings(HeldProcess& held, const ProcessImage& process, const std::set<int>& switched,
                                  int m1_root, RevivedFiles& revived) {
  std::vector<MapRange> parts;
  for (const Mapping& mapping : *process.mappings) {
    if (mapping.shared && switched.contains(mapping.volume)) parts.push_back({mapping.range, mapping});
  }
  std::vector<UnmappedPart> failed = TRY(map_anew(held, parts, m1_root, free_slot_of(process), revived));
  return failed.empty() ? Result<void>() : Result<void>(std::move(failed.front().reason));
}

}  // namespace deltabox
