#include "reconcile/private_mappings.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "deltacr/address_space.h"
#include "reconcile/map_file.h"
#include "sys/files.h"

namespace deltabox {

namespace {

constexpr std::uint64_t kHasContents = std::uint64_t{3} << 62;  // of an entry of pagemap: present, swapped out
constexpr std::uint64_t kIsFile = std::uint64_t{1} << 61;

struct SavedPage {
  std::uint64_t address = 0;
  std::string bytes;
};

// As they are now, with the names that the image has: the overlay is not where it was.
Result<std::vector<Mapping>> mappings_on(const std::set<std::uint64_t>& devices, HeldProcess& held,
                                         const MappingList& image) {
  const std::shared_ptr<const MappingList> now = TRY(list_mappings(held.live->files, nullptr));
  std::vector<Mapping> found;
  for (const Mapping& mapping : *now) {
    if (!mapping.has_file() || mapping.shared || !devices.contains(mapping.device)) continue;
    const Mapping* known = find_mapping(image, mapping.range.start);
    found.push_back(mapping);
    found.back().name = known != nullptr ? known->name : "";
  }
  return found;
}

class Mover {
 public:
  Mover(HeldProcess& held, int memory, int pagemap) : held_(held), memory_(memory), pagemap_(pagemap) {}

  Result<std::vector<Notice>> move(const std::vector<Mapping>& mappings, const ProcessImage& process, int m1_root,
                                   RevivedFiles& revived) {
    std::vector<MapRange> parts;
    std::vector<Notice> notices;
    for (const Mapping& mapping : mappings) {
      const bool has_path = !mapping.is_deleted() && sys::open_in_root(m1_root, mapping.name, O_PATH).ok();
      TRY(save(mapping, has_path));
      if (has_path) {
        parts.push_back({mapping.range, mapping});
        continue;
      }
      notices.push_back({process.pid.value, "mapping",
                         mapping.name + ": it was mapped while it was open for writing, and is at no path any more; "
                                        "from now on this is memory with its contents"});
      parts.push_back({mapping.range, as_memory(mapping)});
      close_beyond_end(mapping, parts);
    }
    std::vector<UnmappedPart> failed = TRY(map_anew(held_, parts, m1_root, revived));
    if (!failed.empty()) return std::move(failed.front().reason);
    for (const SavedPage& page : saved_) {
      if (::pwrite(memory_, page.bytes.data(), page.bytes.size(), static_cast<off_t>(page.address)) !=
          static_cast<ssize_t>(page.bytes.size())) {
        return os_error("pwrite", "/proc/PID/mem");
      }
    }
    return notices;
  }

 private:
  static Mapping as_memory(Mapping mapping) {
    mapping.name.clear();
    mapping.device = mapping.inode = mapping.file_offset = mapping.overlay = 0;
    return mapping;
  }

  // An access beyond the file's end is to stay an error, though another one (SIGSEGV).
  void close_beyond_end(const Mapping& mapping, std::vector<MapRange>& parts) const {
    Mapping closed = as_memory(mapping);
    closed.protection = PROT_NONE;
    for (const std::uint64_t address : beyond_end_) {
      if (mapping.range.start > address || address >= mapping.range.end) continue;
      if (parts.back().mapping.protection == PROT_NONE && parts.back().range.end == address) {
        parts.back().range.end += kPageSize;
      } else {
        parts.push_back({{address, address + kPageSize}, closed});
      }
    }
  }

  // The pages of the process's own, or all that there are.
  Result<void> save(const Mapping& mapping, bool only_own) {
    for (std::uint64_t address = mapping.range.start; address < mapping.range.end; address += kPageSize) {
      std::uint64_t entry = 0;
      const auto offset = static_cast<off_t>((address >> kPageShift) * sizeof entry);
      if (::pread(pagemap_, &entry, sizeof entry, offset) != sizeof entry)
        return os_error("pread", "/proc/PID/pagemap");
      if (only_own && ((entry & kHasContents) == 0 || (entry & kIsFile) != 0)) continue;
      SavedPage page{address, std::string(kPageSize, '\0')};
      const ssize_t size = ::pread(memory_, page.bytes.data(), kPageSize, static_cast<off_t>(address));
      if (size == static_cast<ssize_t>(kPageSize)) {
        saved_.push_back(std::move(page));
      } else {
        beyond_end_.push_back(address);
      }
    }
    return {};
  }

  HeldProcess& held_;
  int memory_;
  int pagemap_;
  std::vector<SavedPage> saved_;
  std::vector<std::uint64_t> beyond_end_;
};

}  // namespace

Result<std::vector<Notice>> move_private_mappings(TreeCapture& capture, const TreeImage& image,
                                                  const std::set<std::uint64_t>& devices, int m1_root) {
  std::vector<Notice> notices;
  RevivedFiles revived(image, m1_root);
  for (const ProcessImage& process : image.processes) {
    HeldProcess* held = capture.find(process.incarnation);
    if (held == nullptr) continue;
    const std::vector<Mapping> found = TRY(mappings_on(devices, *held, *process.mappings));
    if (found.empty()) continue;
    const UniqueFd memory =
        TRY(sys::open_at(capture.proc_fd(), std::to_string(held->live->pid.value) + "/mem", O_RDWR));
    Mover mover(*held, memory.get(), TRY(held->live->files.get(ProcFile::kPageMap)));
    for (Notice& notice : TRY(mover.move(found, process, m1_root, revived))) notices.push_back(std::move(notice));
  }
  return notices;
}

}  // namespace deltabox
