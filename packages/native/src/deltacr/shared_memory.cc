#include "deltacr/shared_memory.h"

#include <fcntl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <set>

#include "base/side_by_side.h"
#include "deltacr/capture.h"
#include "deltacr/descriptors.h"
#include "sys/files.h"
#include "sys/processes.h"

namespace deltabox {

namespace {

constexpr std::uint64_t kChunkBytes = 256u << 10;
constexpr std::size_t kChunksWorthAThread = 4;
constexpr std::size_t kMaxSmapsBytes = 64u << 20;
alignas(kPageSize) const std::byte kZeros[kPageSize] = {};

// mincore(2) takes a page in swap for a hole. Where anything of the machine is in swap, the mapping's own sum decides.
Result<bool> may_be_swapped(int proc_fd, const SharedPiece& piece) {
  struct sysinfo info {};
  if (::sysinfo(&info) != 0) return os_error("sysinfo", "swap");
  if (info.totalswap == info.freeswap) return false;
  const std::string smaps = TRY(sys::read_file_at(proc_fd, std::to_string(piece.pid.value) + "/smaps", kMaxSmapsBytes));
  char start[32];
  std::snprintf(start, sizeof start, "%lx-", static_cast<unsigned long>(piece.range.start));
  // A piece may be a part of a mapping; then the worst is assumed.
  const std::size_t at = smaps.starts_with(start) ? 0 : smaps.find(std::string("\n") + start);
  if (at == std::string::npos) return true;
  const std::size_t swap = smaps.find("\nSwap:", at);
  return swap == std::string::npos || std::strtoull(smaps.c_str() + swap + 6, nullptr, 10) != 0;
}

Result<std::vector<AddressRange>> data_parts(int fd, std::uint64_t size_bytes) {
  std::vector<AddressRange> parts;
  std::uint64_t offset = 0;
  while (offset < size_bytes) {
    const off_t data = ::lseek(fd, static_cast<off_t>(offset), SEEK_DATA);
    if (data < 0 && errno == ENXIO) break;
    if (data < 0) return os_error("lseek", "shared memory");
    const off_t hole = ::lseek(fd, data, SEEK_HOLE);
    if (hole < 0) return os_error("lseek", "shared memory");
    const auto end = std::min(static_cast<std::uint64_t>(hole), size_bytes);
    parts.push_back({static_cast<std::uint64_t>(data) & ~(kPageSize - 1), end});
    offset = end;
  }
  return parts;
}

}  // namespace

std::vector<SharedPiece> cover_object(const TreeImage& image, SharedObjectId object, int protection) {
  std::vector<SharedPiece> all;
  for (const ProcessImage& process : image.processes) {
    for (const Mapping& mapping : *process.mappings) {
      if (mapping.shared_object != object || (mapping.protection & protection) != protection) continue;
      all.push_back({process.incarnation, process.host_pid, mapping.range, mapping.file_offset, mapping.protection});
    }
  }
  std::stable_sort(all.begin(), all.end(),
                   [](const SharedPiece& a, const SharedPiece& b) { return a.offset < b.offset; });
  std::vector<SharedPiece> pieces;
  std::uint64_t covered = 0;  // of the object, up to here
  for (SharedPiece piece : all) {
    const std::uint64_t end = piece.offset + piece.range.size_bytes();
    if (!pieces.empty() && end <= covered) continue;
    if (!pieces.empty() && piece.offset < covered) {
      piece.range.start += covered - piece.offset;
      piece.offset = covered;
    }
    covered = end;
    pieces.push_back(piece);
  }
  return pieces;
}

// How an object is read during one capture.
struct SharedMemoryReader::Content {
  int proc_fd = -1;
  int file = -1;  // or, without one:
  const std::vector<SharedPiece>* pieces = nullptr;
  std::vector<AddressRange> parts;  // of the object, that are no holes; in order

  Result<void> read(std::uint64_t offset, std::byte* buffer, std::size_t size_bytes) const {
    if (file >= 0) {
      const ssize_t count = ::pread(file, buffer, size_bytes, static_cast<off_t>(offset));
      if (count < 0) return os_error("pread", "shared memory");
      std::memset(buffer + count, 0, size_bytes - static_cast<std::size_t>(count));
      return {};
    }
    for (const SharedPiece& piece : *pieces) {
      if (offset < piece.offset || offset - piece.offset >= piece.range.size_bytes()) continue;
      const std::uint64_t address = piece.range.start + (offset - piece.offset);
      if ((piece.protection & PROT_READ) != 0) {
        return sys::read_remote(piece.pid, RemoteAddress{address}, buffer, size_bytes);
      }
      // process_vm_readv respects protections; /proc/PID/mem does not (FOLL_FORCE).
      const UniqueFd memory = TRY(sys::open_at(proc_fd, std::to_string(piece.pid.value) + "/mem", O_RDONLY));
      const ssize_t count = ::pread(memory.get(), buffer, size_bytes, static_cast<off_t>(address));
      return count == static_cast<ssize_t>(size_bytes) ? Result<void>() : os_error("pread", "/proc/PID/mem");
    }
    return make_error(Code::kInternal, "nobody maps this part of shared memory");
  }
};

// Pages that are no longer as the last look found them, in order.
Result<std::vector<PageNumber>> SharedMemoryReader::changed_pages(const Content& content, const PageMap& before,
                                                                  const PageStore& store) {
  std::vector<AddressRange> chunks;
  for (const AddressRange& part : content.parts) {
    const std::uint64_t end = (part.end + kPageSize - 1) & ~(kPageSize - 1);
    for (std::uint64_t chunk = part.start; chunk < end; chunk += kChunkBytes) {
      chunks.push_back({chunk, std::min(chunk + kChunkBytes, end)});
    }
  }
  std::vector<std::vector<PageNumber>> changed(chunks.size());
  const auto compare = [&](std::size_t begin, std::size_t end) -> Result<void> {
    static thread_local std::vector<std::byte> buffer(kChunkBytes);
    for (std::size_t index = begin; index < end; ++index) {
      const AddressRange& chunk = chunks[index];
      TRY(content.read(chunk.start, buffer.data(), chunk.size_bytes()));
      for (std::uint64_t at = 0; at < chunk.size_bytes(); at += kPageSize) {
        const PageNumber page = (chunk.start + at) >> kPageShift;
        const std::optional<PageId> stored = before.find(page);
        const std::byte* bytes = stored ? store.bytes(*stored) : kZeros;
        if (std::memcmp(bytes, buffer.data() + at, kPageSize) != 0) changed[index].push_back(page);
      }
    }
    return {};
  };
  TRY(side_by_side(chunks.size(), 1, chunks.size() / kChunksWorthAThread, compare));
  std::vector<PageNumber> all;
  for (const std::vector<PageNumber>& pages : changed) all.insert(all.end(), pages.begin(), pages.end());
  return all;
}

Result<void> SharedMemoryReader::store_run(const Content& content, PageNumber first, std::size_t count,
                                           PageStore& store, std::vector<PageUpdate>& updates) {
  std::vector<std::byte> bytes(count * kPageSize);
  TRY(content.read(first << kPageShift, bytes.data(), bytes.size()));
  for (std::size_t index = 0; index < count; ++index) {
    const std::byte* page = bytes.data() + index * kPageSize;
    if (std::memcmp(kZeros, page, kPageSize) == 0) {
      updates.push_back({first + index, std::nullopt});
      continue;
    }
    std::vector<PageId> allocated;
    TRY(store.allocate(1, allocated));
    std::memcpy(store.bytes(allocated[0]), page, kPageSize);
    updates.push_back({first + index, allocated[0]});
  }
  return {};
}

Result<SharedMemoryReader> SharedMemoryReader::create(int proc_fd, int self_fd_dir) {
  SharedMemoryReader reader;
  reader.proc_fd_ = proc_fd;
  reader.self_fd_dir_ = self_fd_dir;
  const UniqueFd probe(::memfd_create("probe", MFD_CLOEXEC));
  if (!probe.valid()) return os_error("memfd_create", "probe");
  reader.device_ = TRY(sys::stat_fd(probe.get())).st_dev;
  return reader;
}

void SharedMemoryReader::begin() {
  for (auto& [key, object] : objects_) {
    object.is_met = false;
    object.file.reset();
  }
}

SharedMemoryReader::Known& SharedMemoryReader::known(const Key& key) {
  Known& object = objects_[key];
  if (object.id == 0) object.id = next_id_++;
  object.is_met = true;
  return object;
}

SharedObjectId SharedMemoryReader::object_of(const Mapping& mapping) {
  if (!mapping.shared || !mapping.has_file() || mapping.device != device_) return 0;
  Known& object = known({mapping.inode, is_system_v(mapping.name)});
  if (object.name.empty()) object.name = mapping.name;
  return object.id;
}

Result<SharedObjectId> SharedMemoryReader::meet(std::uint64_t device, std::uint64_t inode, const std::string& name,
                                                int duplicate) {
  if (device != device_) return SharedObjectId{0};
  Known& object = known({inode, is_system_v(name)});
  object.name = name;
  // The task's own descriptor may be for writing only.
  if (!object.file.valid()) object.file = TRY(reopen(self_fd_dir_, duplicate, O_RDONLY));
  return object.id;
}

Result<std::vector<AddressRange>> SharedMemoryReader::resident_parts(const SharedPiece& piece,
                                                                     TreeCapture& capture) const {
  const auto to_object = [&](std::uint64_t address) { return piece.offset + (address - piece.range.start); };
  std::vector<AddressRange> parts;
  if (TRY(may_be_swapped(proc_fd_, piece))) {
    parts.push_back({piece.offset, piece.offset + piece.range.size_bytes()});
    return parts;
  }
  HeldProcess* held = capture.find(piece.process);
  if (held == nullptr) return make_error(Code::kInternal, "a process with shared memory is not held");
  const parasite::Site& site = held->live->site;
  std::vector<unsigned char> resident(parasite::kBufferBytes);
  for (std::uint64_t address = piece.range.start; address < piece.range.end;) {
    const std::uint64_t size = std::min(piece.range.end - address, parasite::kBufferBytes * kPageSize);
    parasite::Call call = parasite::make_call(SYS_mincore, address, size, site.mapping.value + parasite::kBufferOffset);
    TRY(held->session.run(site, {&call, 1}));
    if (call.result < 0) return os_error_from(static_cast<int>(-call.result), "mincore in a tracee");
    TRY(held->session.read_buffer(site, 0, resident.data(), size / kPageSize));
    for (std::uint64_t index = 0; index < size / kPageSize; ++index) {
      if ((resident[index] & 1) == 0) continue;
      const std::uint64_t start = to_object(address + index * kPageSize);
      if (!parts.empty() && parts.back().end == start) {
        parts.back().end += kPageSize;
      } else {
        parts.push_back({start, start + kPageSize});
      }
    }
    address += size;
  }
  return parts;
}

Result<SharedMemoryReader::Content> SharedMemoryReader::find_content(const Known& object, SharedMemory& found,
                                                                     const std::vector<SharedPiece>& pieces,
                                                                     TreeCapture& capture) const {
  Content content;
  content.proc_fd = proc_fd_;
  content.pieces = &pieces;
  if (object.file.valid()) {
    const struct stat info = TRY(sys::stat_fd(object.file.get()));
    found.size_bytes = static_cast<std::uint64_t>(info.st_size);
    found.mode = info.st_mode & 07777;
    found.seals = std::max(0, ::fcntl(object.file.get(), F_GET_SEALS));
    content.file = object.file.get();
    content.parts = TRY(data_parts(content.file, found.size_bytes));
    return content;
  }
  for (const SharedPiece& piece : pieces) {
    found.size_bytes = std::max(found.size_bytes, piece.offset + piece.range.size_bytes());
    for (const AddressRange& part : TRY(resident_parts(piece, capture))) content.parts.push_back(part);
  }
  return content;
}

// Only who is in the tasks' IPC namespace can: one that is attached.
Result<void> SharedMemoryReader::ask_segment(int id, SharedMemory& found, const std::vector<SharedPiece>& pieces,
                                             TreeCapture& capture) {
  constexpr int kRemoved = 01000;  // SHM_DEST
  HeldProcess* held = pieces.empty() ? nullptr : capture.find(pieces.front().process);
  if (held == nullptr) return {};
  const std::uint64_t buffer = held->live->site.mapping.value + parasite::kBufferOffset;
  parasite::Call ask = parasite::make_call(SYS_shmctl, static_cast<std::uint64_t>(id), IPC_STAT, buffer);
  TRY(held->session.run(held->live->site, {&ask, 1}));
  if (ask.result < 0) return {};  // it may not read it: the segment can't be made again
  shmid_ds status{};
  TRY(held->session.read_buffer(held->live->site, 0, &status, sizeof status));
  found.segment = id;
  found.key = status.shm_perm.__key;
  found.uid = status.shm_perm.uid;
  found.mode = status.shm_perm.mode & 0777;
  found.is_removed = (status.shm_perm.mode & kRemoved) != 0;
  found.size_bytes = status.shm_segsz;
  return {};
}

Result<void> SharedMemoryReader::read(TreeImage& image, TreeCapture& capture, PageStore& store) {
  std::erase_if(objects_, [](const auto& entry) { return !entry.second.is_met; });
  for (auto& [key, object] : objects_) {
    SharedMemory found;
    found.id = object.id;
    found.name = object.name;
    found.system_v = key.system_v;
    found.has_descriptor = object.file.valid();
    found.seals = object.seals;
    const std::vector<SharedPiece> pieces = cover_object(image, object.id, PROT_NONE);
    const Content content = TRY(find_content(object, found, pieces, capture));
    if (key.system_v) TRY(ask_segment(static_cast<int>(key.inode), found, pieces, capture));
    object.seals = found.seals;
    std::vector<PageUpdate> updates;
    std::uint64_t cursor = 0;  // what lies before it has been looked at
    const PageMap& before = object.pages;
    const auto erase_until = [&](std::uint64_t offset) {
      before.for_each(cursor >> kPageShift, offset >> kPageShift, [&](PageNumber page, PageId) {
        updates.push_back({page, std::nullopt});
      });
    };
    const std::vector<PageNumber> changed = TRY(changed_pages(content, before, store));
    auto next = changed.begin();
    for (const AddressRange& part : content.parts) {
      erase_until(part.start);
      cursor = (part.end + kPageSize - 1) & ~(kPageSize - 1);
      while (next != changed.end() && *next << kPageShift < cursor) {
        const PageNumber first = *next;
        std::size_t count = 1;
        while (count < kChunkBytes / kPageSize && next + 1 != changed.end() && next[1] == first + count &&
               next[1] << kPageShift < cursor) {
          ++next;
          ++count;
        }
        ++next;
        TRY(store_run(content, first, count, store, updates));
      }
    }
    erase_until(~std::uint64_t{0} << kPageShift);
    // A failure above leaves pages that nobody counts, until the engine ends; the next look starts from the same map.
    object.pages = PageMap::updated(object.pages, updates, store);
    found.pages = object.pages;
    image.shared_memory.push_back(std::move(found));
    object.file.reset();
  }
  return {};
}

Result<void> SharedMemoryReader::adopt(const SharedMemory& target, int made_anew) {
  const auto present =
      std::find_if(objects_.begin(), objects_.end(), [&](const auto& entry) { return entry.second.id == target.id; });
  if (made_anew < 0) {
    if (present != objects_.end()) present->second.pages = target.pages;
    if (present != objects_.end() || target.segment < 0) return {};
    Known& segment = objects_[Key{static_cast<std::uint64_t>(target.segment), true}];
    segment.id = target.id;
    segment.pages = target.pages;
    segment.name = target.name;
    return {};
  }
  if (present != objects_.end()) objects_.erase(present);
  const struct stat info = TRY(sys::stat_fd(made_anew));
  Known& object = objects_[Key{info.st_ino, false}];
  object.id = target.id;
  object.pages = target.pages;
  object.seals = target.seals;
  object.name = target.name;
  return {};
}

}  // namespace deltabox
