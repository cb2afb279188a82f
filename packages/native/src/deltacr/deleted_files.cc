#include "deltacr/deleted_files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "sys/file_copy.h"
#include "sys/files.h"
#include "sys/processes.h"

namespace deltabox {

namespace {

constexpr std::size_t kChunkBytes = 1u << 20;

std::int64_t ns(const timespec& time) { return static_cast<std::int64_t>(time.tv_sec) * 1'000'000'000 + time.tv_nsec; }

}  // namespace

void DeletedFileReader::begin(std::vector<VolumeView> volumes) {
  volumes_ = std::move(volumes);
  met_.clear();
  std::erase_if(known_, [](const auto& entry) { return entry.second.contents.expired(); });
}

Result<void> DeletedFileReader::meet(const Description& description, int duplicate) {
  Met& met = met_[Key{description.device, description.inode}];
  if (met.file.valid()) return {};
  met.volume = description.volume;
  // The task's own descriptor may be for writing only.
  met.file = TRY(reopen(self_fd_dir_, duplicate, O_RDONLY));
  return {};
}

Result<std::shared_ptr<const FileContents>> DeletedFileReader::read_file(const Key& key, const Met& met) {
  const struct stat info = TRY(sys::stat_fd(met.file.get()));
  Known& known = known_[key];
  if (std::shared_ptr<const FileContents> contents = known.contents.lock()) {
    const bool unchanged =
        known.size_bytes == info.st_size && known.mtime_ns == ns(info.st_mtim) && known.ctime_ns == ns(info.st_ctim);
    const bool is_told = !met.mapped && volumes_[static_cast<std::size_t>(met.volume)].stores_tell;
    if (unchanged && is_told) return contents;
    if (unchanged && TRY(sys::same_file_data(TRY(contents->file->open(O_RDONLY)).get(), met.file.get()))) {
      return contents;
    }
  }
  auto contents = std::make_shared<FileContents>();
  contents->file = TRY(files_->make());
  contents->mode = info.st_mode & 07777;
  contents->uid = info.st_uid;
  contents->gid = info.st_gid;
  contents->times[0] = info.st_atim;
  contents->times[1] = info.st_mtim;
  TRY(sys::copy_file_data(met.file.get(), TRY(contents->file->open(O_RDWR)).get()));
  known = {contents, info.st_size, ns(info.st_mtim), ns(info.st_ctim)};
  return std::shared_ptr<const FileContents>(std::move(contents));
}

// Nobody has it open any more, so it is read as the process sees it: what lies beyond the mapping is out of reach for
// everybody.
Result<std::shared_ptr<const FileContents>> DeletedFileReader::read_mapping(HostTid pid, const Mapping& mapping) {
  auto contents = std::make_shared<FileContents>();
  contents->file = TRY(files_->make());
  const UniqueFd file = TRY(contents->file->open(O_RDWR));
  contents->mode = 0600;
  contents->times[0].tv_nsec = contents->times[1].tv_nsec = UTIME_NOW;
  std::vector<char> buffer(kChunkBytes);
  const auto copy = [&](std::uint64_t address, std::size_t count) -> Result<bool> {
    if (!sys::read_remote(pid, RemoteAddress{address}, buffer.data(), count).ok()) return false;
    const auto offset = static_cast<off_t>(mapping.file_offset + (address - mapping.range.start));
    if (::pwrite(file.get(), buffer.data(), count, offset) != static_cast<ssize_t>(count)) {
      return os_error("pwrite", "contents of a deleted file");
    }
    return true;
  };
  for (std::uint64_t address = mapping.range.start; address < mapping.range.end; address += kChunkBytes) {
    const std::uint64_t end = std::min(address + kChunkBytes, mapping.range.end);
    if (TRY(copy(address, end - address))) continue;
    // Beyond the end of the file nothing can be read, and this one ends there, too.
    for (std::uint64_t page = address; page < end; page += kPageSize) TRY(copy(page, kPageSize));
  }
  // Where the process may not read we can't, either: it ends where the mapping does.
  const auto mapped_to = static_cast<off_t>(mapping.file_offset + mapping.range.size_bytes());
  if ((mapping.protection & PROT_READ) == 0 && ::ftruncate(file.get(), mapped_to) != 0) {
    return os_error("ftruncate", "contents of a deleted file");
  }
  return std::shared_ptr<const FileContents>(std::move(contents));
}

Result<void> DeletedFileReader::read(TreeImage& image) {
  std::map<Key, std::pair<HostTid, const Mapping*>> only_mapped;
  for (const ProcessImage& process : image.processes) {
    for (const Mapping& mapping : *process.mappings) {
      if (!mapping.shared || mapping.volume < 0 || !mapping.is_deleted()) continue;
      const Key key{mapping.device, mapping.inode};
      const auto met = met_.find(key);
      if (met != met_.end()) {
        met->second.mapped = true;
        continue;
      }
      // The longest one shows most of the file.
      auto& longest = only_mapped[key];
      if (longest.second == nullptr || longest.second->range.size_bytes() < mapping.range.size_bytes()) {
        longest = {process.host_pid, &mapping};
      }
    }
  }
  const auto add = [&](int volume, const Key& key, std::shared_ptr<const FileContents> contents) {
    image.deleted_files.push_back(
        {volumes_[static_cast<std::size_t>(volume)].path, key.first, key.second, std::move(contents)});
  };
  for (const auto& [key, met] : met_) add(met.volume, key, TRY(read_file(key, met)));
  for (const auto& [key, where] : only_mapped) {
    add(where.second->volume, key, TRY(read_mapping(where.first, *where.second)));
  }
  met_.clear();
  return {};
}

}  // namespace deltabox
