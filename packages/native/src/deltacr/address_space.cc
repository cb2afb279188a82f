#include "deltacr/address_space.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>

#include "sys/files.h"
#include "sys/kernel_abi.h"

namespace deltabox {

namespace {

constexpr std::size_t kMaxMappings = 1u << 20;  // vm.max_map_count is 65,530 by default

int protection_of(std::uint64_t flags) {
  return ((flags & abi::kProcmapVmaReadable) != 0 ? PROT_READ : 0) |
         ((flags & abi::kProcmapVmaWritable) != 0 ? PROT_WRITE : 0) |
         ((flags & abi::kProcmapVmaExecutable) != 0 ? PROT_EXEC : 0);
}

Mapping without_name(const abi::ProcmapQuery& query) {
  Mapping mapping;
  mapping.range = {query.vma_start, query.vma_end};
  mapping.protection = protection_of(query.vma_flags);
  mapping.shared = (query.vma_flags & abi::kProcmapVmaShared) != 0;
  mapping.file_offset = query.vma_offset;
  mapping.device = makedev(query.dev_major, query.dev_minor);
  mapping.inode = query.inode;
  return mapping;
}

bool same_but_name(const Mapping& first, const Mapping& second) {
  return first.range == second.range && first.protection == second.protection && first.shared == second.shared &&
         first.file_offset == second.file_offset && first.device == second.device && first.inode == second.inode;
}

}  // namespace

namespace {

constexpr std::size_t kNameBytes = 4096;

void ask_for_name(abi::ProcmapQuery& query, char* name) {
  query.vma_name_size = kNameBytes;
  query.vma_name_addr = reinterpret_cast<std::uint64_t>(name);
}

std::string name_in(const abi::ProcmapQuery& query, const char* name) {
  return query.vma_name_size > 0 ? std::string(name, query.vma_name_size - 1) : std::string();
}

}  // namespace

Result<std::string> current_name(int maps_fd, std::uint64_t address) {
  char name[kNameBytes];
  abi::ProcmapQuery query{};
  query.size = sizeof query;
  query.query_addr = address;
  ask_for_name(query, name);
  if (::ioctl(maps_fd, abi::kProcmapQuery, &query) != 0) return os_error("PROCMAP_QUERY", "name");
  return name_in(query, name);
}

namespace {

// Which volume a shared mapping lies on is found out for each list.
Mapping without_volume(Mapping mapping) {
  mapping.volume = -1;
  mapping.in_writable_layer = false;
  return mapping;
}

Result<std::shared_ptr<const MappingList>> read_mappings(int maps_fd,
                                                         const std::shared_ptr<const MappingList>& previous) {
  std::shared_ptr<MappingList> mappings;  // made with the first that is not as it was
  const auto begin_new = [&](std::size_t same) {
    mappings = std::make_shared<MappingList>();
    if (!previous) return;
    mappings->reserve(previous->size() + 8);
    for (std::size_t index = 0; index < same; ++index) mappings->push_back(without_volume((*previous)[index]));
  };
  if (!previous) begin_new(0);
  std::size_t previous_index = 0;
  std::size_t count = 0;
  std::uint64_t address = 0;
  char name[kNameBytes];
  for (; count < kMaxMappings; ++count) {
    abi::ProcmapQuery query{};
    query.size = sizeof query;
    query.query_flags = abi::kProcmapCoveringOrNext;
    query.query_addr = address;
    // A name costs a walk up the directories. Those of a list that is there are known.
    if (!previous) ask_for_name(query, name);
    if (::ioctl(maps_fd, abi::kProcmapQuery, &query) != 0) {
      if (errno == ENOENT) break;
      return os_error("PROCMAP_QUERY");
    }
    Mapping mapping = without_name(query);
    address = mapping.range.end;
    while (previous && previous_index < previous->size() &&
           (*previous)[previous_index].range.end <= mapping.range.start) {
      ++previous_index;
    }
    const Mapping* const before =
        previous && previous_index < previous->size() ? &(*previous)[previous_index] : nullptr;
    const bool is_known = before != nullptr && same_but_name(*before, mapping);
    if (is_known && !mappings && previous_index == count) continue;
    if (!mappings) begin_new(count);
    if (is_known) {
      mappings->push_back(without_volume(*before));
    } else {
      mapping.name = previous ? TRY(current_name(maps_fd, mapping.range.start)) : name_in(query, name);
      mappings->push_back(std::move(mapping));
    }
  }
  if (!mappings && count == previous->size()) return previous;
  if (!mappings) begin_new(count);
  return std::shared_ptr<const MappingList>(std::move(mappings));
}

}  // namespace

Result<std::shared_ptr<const MappingList>> list_mappings(int proc_fd, HostTid pid,
                                                         const std::shared_ptr<const MappingList>& previous) {
  ProcessFiles files(proc_fd, pid);
  return list_mappings(files, previous);
}

Result<std::shared_ptr<const MappingList>> list_mappings(ProcessFiles& files,
                                                         const std::shared_ptr<const MappingList>& previous) {
  Result<std::shared_ptr<const MappingList>> listed = read_mappings(TRY(files.get(ProcFile::kMappings)), previous);
  if (listed.ok() || listed.error().os_errno != ESRCH) return listed;
  files.forget_memory();
  return read_mappings(TRY(files.get(ProcFile::kMappings)), previous);
}

const Mapping* find_mapping(const MappingList& mappings, std::uint64_t address) {
  const auto found =
      std::lower_bound(mappings.begin(), mappings.end(), address,
                       [](const Mapping& mapping, std::uint64_t value) { return mapping.range.end <= value; });
  return found != mappings.end() && found->range.contains(address) ? &*found : nullptr;
}

}  // namespace deltabox
