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

Result<std::string> current_name(int maps_fd, std::uint64_t address) {
  char name[4096];
  abi::ProcmapQuery query{};
  query.size = sizeof query;
  query.query_addr = address;
  query.vma_name_size = sizeof name;
  query.vma_name_addr = reinterpret_cast<std::uint64_t>(name);
  if (::ioctl(maps_fd, abi::kProcmapQuery, &query) != 0) return os_error("PROCMAP_QUERY", "name");
  return query.vma_name_size > 0 ? std::string(name, query.vma_name_size - 1) : std::string();
}

Result<std::shared_ptr<const MappingList>> list_mappings(int proc_fd, HostTid pid,
                                                         const std::shared_ptr<const MappingList>& previous) {
  UniqueFd maps = TRY(sys::open_at(proc_fd, std::to_string(pid.value) + "/maps", O_RDONLY));
  auto mappings = std::make_shared<MappingList>();
  if (previous) mappings->reserve(previous->size() + 8);
  std::size_t previous_index = 0;
  bool changed = !previous;
  std::uint64_t address = 0;
  while (mappings->size() < kMaxMappings) {
    abi::ProcmapQuery query{};
    query.size = sizeof query;
    query.query_flags = abi::kProcmapCoveringOrNext;
    query.query_addr = address;
    if (::ioctl(maps.get(), abi::kProcmapQuery, &query) != 0) {
      if (errno == ENOENT) break;
      return os_error("PROCMAP_QUERY", "pid " + std::to_string(pid.value));
    }
    Mapping mapping = without_name(query);
    while (previous && previous_index < previous->size() &&
           (*previous)[previous_index].range.end <= mapping.range.start) {
      ++previous_index;
    }
    if (previous && previous_index < previous->size() && same_but_name((*previous)[previous_index], mapping)) {
      mapping.name = (*previous)[previous_index].name;
      mapping.overlay = (*previous)[previous_index].overlay;
      mapping.shared_object = (*previous)[previous_index].shared_object;
    } else {
      changed = true;
      mapping.name = TRY(current_name(maps.get(), mapping.range.start));
    }
    address = mapping.range.end;
    mappings->push_back(std::move(mapping));
  }
  if (!changed && mappings->size() == previous->size()) return previous;
  return std::shared_ptr<const MappingList>(std::move(mappings));
}

const Mapping* find_mapping(const MappingList& mappings, std::uint64_t address) {
  const auto found =
      std::lower_bound(mappings.begin(), mappings.end(), address,
                       [](const Mapping& mapping, std::uint64_t value) { return mapping.range.end <= value; });
  return found != mappings.end() && found->range.contains(address) ? &*found : nullptr;
}

}  // namespace deltabox
