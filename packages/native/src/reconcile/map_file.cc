#include "reconcile/map_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>

#include <cerrno>
#include <map>
#include <string>

#include "reconcile/delivery.h"
#include "reconcile/remote_calls.h"
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

constexpr std::uint64_t kUnreservedBytes = 1u << 30;
constexpr std::size_t kMapFlags = 3;  // which argument of mmap(2) they are

Call map_call(const MapRange& part, int fd) {
  const Mapping& mapping = part.mapping;
  std::uint64_t flags = MAP_FIXED | (mapping.shared ? MAP_SHARED : MAP_PRIVATE);
  if (!mapping.has_file()) flags |= MAP_ANONYMOUS;
  // One larger than the machine's memory is refused without; its file is there for this one run.
  const bool is_large_copy = mapping.has_file() && !mapping.shared && mapping.range.size_bytes() >= kUnreservedBytes;
  if (is_large_copy || (!mapping.has_file() && mapping.protection == PROT_NONE)) flags |= MAP_NORESERVE;
  if (mapping.name == "[stack]") flags |= MAP_GROWSDOWN;
  return make_call(SYS_mmap, part.range.start, part.range.size_bytes(), static_cast<std::uint64_t>(mapping.protection),
                   flags, static_cast<std::uint64_t>(fd),
                   mapping.file_offset + (part.range.start - mapping.range.start));
}

Result<void> check_maps(const HeldProcess& held, const std::vector<Call>& calls) {
  for (const Call& call : calls) {
    if (call.result < 0 && call.result > -4096) return failed_call(held, "mmap in a tracee", call);
  }
  return {};
}

Result<void> run_maps(HeldProcess& held, std::vector<Call>& calls) {
  TRY(run_batched(held.session, held.live->site, calls));
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
  TRY(run_batched(held.session, held.live->site, again));
  for (std::size_t index = 0; index < again.size(); ++index) calls[refused[index]] = again[index];
  return check_maps(held, calls);
}

using FilesToMap = std::map<FileToMap, std::vector<const MapRange*>>;

// Of one process: what of its files is still to be mapped.
struct Pending {
  Remapping* remapping;
  FilesToMap files;
};

// As many files at a time as travel in one message, and as many parts as fit into one run.
struct Batch {
  Delivery delivery;
  std::vector<UniqueFd> files;
  std::vector<std::vector<const MapRange*>> parts;  // of each file
};

std::vector<Call> mapping_calls(const Batch& batch, const std::vector<int>& numbers) {
  std::vector<Call> calls;
  for (std::size_t index = 0; index < batch.parts.size(); ++index) {
    for (const MapRange* part : batch.parts[index]) calls.push_back(map_call(*part, numbers[index]));
    calls.push_back(make_call(SYS_close, static_cast<std::uint64_t>(numbers[index])));
  }
  return calls;
}

void take_batch(Pending& pending, int m1_root, RevivedFiles& revived, Batch& batch) {
  batch.delivery.held = pending.remapping->held;
  std::size_t uses = 0;
  while (!pending.files.empty() && batch.files.size() < sys::kMaxFdsPerMessage && uses < kMostUses - 1) {
    auto next = pending.files.begin();
    Result<UniqueFd> file = open_file(next->first, m1_root, revived);
    if (!file.ok()) {
      for (const MapRange* part : next->second) pending.remapping->failed.push_back({*part, file.error()});
      pending.files.erase(next);
      continue;
    }
    const std::size_t count = std::min(next->second.size(), kMostUses - 1 - uses);
    const auto end = next->second.begin() + static_cast<std::ptrdiff_t>(count);
    batch.parts.emplace_back(next->second.begin(), end);
    batch.delivery.fds.push_back(file.value().get());
    batch.files.push_back(file.release_value());
    uses += count + 1;
    next->second.erase(next->second.begin(), end);
    if (next->second.empty()) pending.files.erase(next);
  }
}

}  // namespace

Result<void> map_anew(std::vector<Remapping>& remappings, int m1_root, RevivedFiles& revived) {
  std::vector<Pending> pending;
  for (Remapping& remapping : remappings) {
    HeldProcess& held = *remapping.held;
    std::vector<Call> anonymous;
    FilesToMap files;
    for (const MapRange& part : remapping.parts) {
      if (part.mapping.is_system_v()) {
        std::optional<Error> refused = TRY(attach_segment(held, part));
        if (refused) remapping.failed.push_back({part, std::move(*refused)});
      } else if (part.mapping.has_file()) {
        files[file_of(part.mapping)].push_back(&part);
      } else {
        anonymous.push_back(map_call(part, -1));
      }
    }
    TRY(run_maps(held, anonymous));
    if (!files.empty()) pending.push_back({&remapping, std::move(files)});
  }
  while (!pending.empty()) {
    std::vector<Batch> batches(pending.size());
    std::vector<Delivery> deliveries;
    for (std::size_t index = 0; index < pending.size(); ++index) {
      Batch& batch = batches[index];
      take_batch(pending[index], m1_root, revived, batch);
      if (batch.files.empty()) continue;
      batch.delivery.use = [&batch](const std::vector<int>& numbers, const std::set<int>&) {
        return mapping_calls(batch, numbers);
      };
      deliveries.push_back(std::move(batch.delivery));
    }
    TRY(deliver(deliveries));
    for (const Delivery& delivery : deliveries) TRY(check_maps(*delivery.held, delivery.calls));
    std::erase_if(pending, [](const Pending& one) { return one.files.empty(); });
  }
  return {};
}

Result<std::vector<UnmappedPart>> map_anew(HeldProcess& held, const std::vector<MapRange>& parts, int m1_root,
                                           RevivedFiles& revived) {
  std::vector<Remapping> one{{&held, parts, {}}};
  TRY(map_anew(one, m1_root, revived));
  return std::move(one.front().failed);
}

Result<void> move_shared_mappings(TreeCapture& capture, const TreeImage& image, const std::set<int>& switched,
                                  int m1_root, RevivedFiles& revived) {
  std::vector<Remapping> remappings;
  for (const ProcessImage& process : image.processes) {
    HeldProcess* held = capture.find(process.incarnation);
    if (held == nullptr) continue;
    Remapping remapping{held, {}, {}};
    for (const Mapping& mapping : *process.mappings) {
      if (mapping.shared && switched.contains(mapping.volume)) remapping.parts.push_back({mapping.range, mapping});
    }
    if (!remapping.parts.empty()) remappings.push_back(std::move(remapping));
  }
  TRY(map_anew(remappings, m1_root, revived));
  for (Remapping& remapping : remappings) {
    if (!remapping.failed.empty()) return std::move(remapping.failed.front().reason);
  }
  return {};
}

}  // namespace deltabox
