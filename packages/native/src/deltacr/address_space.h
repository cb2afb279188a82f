// Lists the mappings of a tracee through PROCMAP_QUERY (6.11): about half the price of reading /proc/PID/maps, and
// names (the dear part) are asked for only where a mapping is not the one it was at the last look.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/result.h"
#include "deltacr/image.h"
#include "tracee/process_files.h"

namespace deltabox {

// To list so many, or to look for what was written there, takes several times as long as to start a thread.
inline constexpr std::uint64_t kMappingsWorthAThread = 1000;

// `previous` may be null. Returns `previous` itself when nothing changed.
Result<std::shared_ptr<const MappingList>> list_mappings(int proc_fd, HostTid pid,
                                                         const std::shared_ptr<const MappingList>& previous);
// The same from /proc/PID/maps, open already; after an exec(2) it is opened anew.
Result<std::shared_ptr<const MappingList>> list_mappings(ProcessFiles& files,
                                                         const std::shared_ptr<const MappingList>& previous);

// The name that the mapping at an address has now: files are renamed and removed under their mappings.
Result<std::string> current_name(int maps_fd, std::uint64_t address);

// The mapping that contains the address, or null.
const Mapping* find_mapping(const MappingList& mappings, std::uint64_t address);

}  // namespace deltabox
