#include "sys/file_copy.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

#include "sys/files.h"

namespace deltabox::sys {

namespace {

constexpr std::size_t kChunkBytes = std::size_t{256} * 1024;
constexpr std::size_t kBlockBytes = 4096;                       // what is written where contents differ
constexpr std::size_t kMaxXattrBytes = std::size_t{64} * 1024;  // XATTR_LIST_MAX, XATTR_SIZE_MAX

// The first offset from `offset` on that lies in data; `size` when only holes follow.
Result<off_t> next_data(int fd, off_t offset, off_t size) {
  const off_t data = ::lseek(fd, offset, SEEK_DATA);
  if (data < 0 && errno == ENXIO) return size;
  if (data < 0) return os_error("lseek", "SEEK_DATA");
  return std::min(data, size);
}

Result<std::size_t> read_at(int fd, char* buffer, std::size_t size_bytes, off_t offset) {
  std::size_t filled = 0;
  while (filled < size_bytes) {
    const ssize_t count = ::pread(fd, buffer + filled, size_bytes - filled, offset + static_cast<off_t>(filled));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return os_error("pread");
    if (count == 0) break;
    filled += static_cast<std::size_t>(count);
  }
  return filled;
}

Result<void> write_at(int fd, const char* buffer, std::size_t size_bytes, off_t offset) {
  std::size_t written = 0;
  while (written < size_bytes) {
    const ssize_t count = ::pwrite(fd, buffer + written, size_bytes - written, offset + static_cast<off_t>(written));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return os_error("pwrite");
    written += static_cast<std::size_t>(count);
  }
  return {};
}

bool is_overlay_attribute(const char* name) { return std::strncmp(name, "user.overlay.", 13) == 0; }

std::vector<std::string> attribute_names(int fd) {
  std::string list(kMaxXattrBytes, '\0');
  const ssize_t length = ::flistxattr(fd, list.data(), list.size());
  std::vector<std::string> names;
  for (ssize_t start = 0; start < length;) {
    names.emplace_back(list.c_str() + start);
    start += static_cast<ssize_t>(names.back().size()) + 1;
  }
  std::erase_if(names, [](const std::string& name) { return is_overlay_attribute(name.c_str()); });
  return names;
}

Result<void> copy_xattrs(int from_fd, int to_fd) {
  const std::vector<std::string> wanted = attribute_names(from_fd);
  for (const std::string& name : attribute_names(to_fd)) {
    if (std::find(wanted.begin(), wanted.end(), name) == wanted.end()) (void)::fremovexattr(to_fd, name.c_str());
  }
  std::string value(kMaxXattrBytes, '\0');
  for (const std::string& name : wanted) {
    const ssize_t length = ::fgetxattr(from_fd, name.c_str(), value.data(), value.size());
    if (length < 0) return os_error("fgetxattr", name);
    if (::fsetxattr(to_fd, name.c_str(), value.data(), static_cast<std::size_t>(length), 0) != 0) {
      return os_error("fsetxattr", name);
    }
  }
  return {};
}

}  // namespace

Result<std::uint64_t> copy_file_data(int from_fd, int to_fd) {
  if (::ioctl(to_fd, FICLONE, from_fd) == 0) return std::uint64_t{0};
  const struct stat from = TRY(stat_fd(from_fd));
  std::uint64_t copied = 0;
  for (off_t start = TRY(next_data(from_fd, 0, from.st_size)); start < from.st_size;) {
    off_t end = ::lseek(from_fd, start, SEEK_HOLE);
    if (end < 0) return os_error("lseek", "SEEK_HOLE");
    end = std::min(end, from.st_size);
    off_t out = start;
    while (start < end) {
      ssize_t count = ::copy_file_range(from_fd, &start, to_fd, &out, static_cast<std::size_t>(end - start), 0);
      // Between an overlay and another file system it is refused.
      if (count < 0 && errno == EXDEV && ::lseek(to_fd, out, SEEK_SET) == out) {
        count = ::sendfile(to_fd, from_fd, &start, static_cast<std::size_t>(end - start));
        out = start;
      }
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return os_error("copy_file_range");
      if (count == 0) return make_error(Code::kInternal, "a file shrank while it was copied");
      copied += static_cast<std::uint64_t>(count);
    }
    start = TRY(next_data(from_fd, end, from.st_size));
  }
  if (::ftruncate(to_fd, from.st_size) != 0) return os_error("ftruncate");
  return copied;
}

Result<void> copy_file_attributes(int from_fd, int to_fd) {
  const struct stat from = TRY(stat_fd(from_fd));
  const struct stat to = TRY(stat_fd(to_fd));
  if ((from.st_uid != to.st_uid || from.st_gid != to.st_gid) && ::fchown(to_fd, from.st_uid, from.st_gid) != 0) {
    return os_error("fchown");
  }
  TRY(copy_xattrs(from_fd, to_fd));
  // After the owner: chown takes set-id bits away.
  if (::fchmod(to_fd, from.st_mode & 07777) != 0) return os_error("fchmod");
  const timespec times[2] = {from.st_atim, from.st_mtim};
  if (::futimens(to_fd, times) != 0) return os_error("futimens");
  return {};
}

Result<FileDifferences> find_differences(int from_fd, int to_fd) {
  FileDifferences found;
  const off_t size = found.size_bytes = TRY(stat_fd(from_fd)).st_size;
  const auto add = [&](off_t offset, off_t size_bytes, bool is_hole) {
    if (!found.ranges.empty()) {
      FileDifferences::Range& last = found.ranges.back();
      if (last.is_hole == is_hole && last.offset + last.size_bytes == offset) {
        last.size_bytes += size_bytes;
        return;
      }
    }
    found.ranges.push_back({offset, size_bytes, is_hole});
  };
  std::vector<char> wanted(kChunkBytes);
  std::vector<char> present(kChunkBytes);
  for (off_t offset = 0; offset < size;) {
    const off_t wanted_data = TRY(next_data(from_fd, offset, size));
    const off_t present_data = TRY(next_data(to_fd, offset, size));
    offset = std::min(wanted_data, present_data);
    if (wanted_data > offset) {  // data that has to become a hole
      add(offset, wanted_data - offset, true);
      offset = wanted_data;
      continue;
    }
    if (offset >= size) break;
    const std::size_t count = TRY(read_at(from_fd, wanted.data(), kChunkBytes, offset));
    const std::size_t has = TRY(read_at(to_fd, present.data(), count, offset));
    for (std::size_t block = 0; block < count; block += kBlockBytes) {
      const std::size_t length = std::min(kBlockBytes, count - block);
      if (block + length <= has && std::memcmp(wanted.data() + block, present.data() + block, length) == 0) continue;
      add(offset + static_cast<off_t>(block), static_cast<off_t>(length), false);
    }
    if (count == 0) break;
    offset += static_cast<off_t>(count);
  }
  return found;
}

Result<std::uint64_t> apply_differences(const FileDifferences& differences, int from_fd, int to_fd) {
  const off_t size = differences.size_bytes;
  if (TRY(stat_fd(to_fd)).st_size != size && ::ftruncate(to_fd, size) != 0) return os_error("ftruncate");
  std::vector<char> wanted(differences.ranges.empty() ? 0 : kChunkBytes);
  std::uint64_t written = 0;
  for (const FileDifferences::Range& range : differences.ranges) {
    if (range.is_hole) {
      constexpr int kPunch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
      if (::fallocate(to_fd, kPunch, range.offset, range.size_bytes) != 0) return os_error("fallocate", "punch hole");
      continue;
    }
    const off_t end = range.offset + range.size_bytes;
    for (off_t offset = range.offset; offset < end;) {
      const auto most = static_cast<std::size_t>(std::min<off_t>(end - offset, kChunkBytes));
      const std::size_t count = TRY(read_at(from_fd, wanted.data(), most, offset));
      if (count == 0) return make_error(Code::kInternal, "a file shrank while it was copied");
      TRY(write_at(to_fd, wanted.data(), count, offset));
      offset += static_cast<off_t>(count);
      written += count;
    }
  }
  return written;
}

Result<std::uint64_t> correct_file_data(int from_fd, int to_fd) {
  return apply_differences(TRY(find_differences(from_fd, to_fd)), from_fd, to_fd);
}

Result<bool> same_file_data(int first_fd, int second_fd) {
  const off_t size = TRY(stat_fd(first_fd)).st_size;
  if (size != TRY(stat_fd(second_fd)).st_size) return false;
  std::vector<char> left(kChunkBytes);
  std::vector<char> right(kChunkBytes);
  for (off_t offset = 0; offset < size;) {
    offset = std::min(TRY(next_data(first_fd, offset, size)), TRY(next_data(second_fd, offset, size)));
    const std::size_t count = TRY(read_at(first_fd, left.data(), kChunkBytes, offset));
    if (TRY(read_at(second_fd, right.data(), count, offset)) != count) return false;
    if (std::memcmp(left.data(), right.data(), count) != 0) return false;
    if (count == 0) break;
    offset += static_cast<off_t>(count);
  }
  return true;
}

}  // namespace deltabox::sys
