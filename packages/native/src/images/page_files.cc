#include "images/page_files.h"

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/side_by_side.h"
#include "sys/files.h"

namespace deltabox {

namespace {

constexpr char kMagic[4] = {'D', 'B', 'X', 'P'};
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kPagesPerWrite = 512;  // of IOV_MAX 1,024 pieces
constexpr std::size_t kPagesCheckedAtOnce = 512;

struct Footer {
  char magic[4];
  std::uint32_t version;
  std::uint64_t pages;
  std::uint64_t checksum;  // XXH3, of the pages' checksums
};
static_assert(sizeof(Footer) == 24);

std::string name_of(std::uint64_t number) { return std::to_string(number); }

Error damaged(std::uint64_t number, const std::string& what) {
  return make_error(Code::kDamaged, "page file " + name_of(number) + " is damaged: " + what,
                    "Use another checkpoint; what is damaged is never used.");
}

Result<void> write_pages(int fd, const std::vector<const std::byte*>& pages) {
  std::size_t next = 0;
  while (next < pages.size()) {
    iovec pieces[kPagesPerWrite];
    int count = 0;
    std::size_t end = next;
    while (end < pages.size() && end - next < kPagesPerWrite) {
      iovec& piece = pieces[count++];
      piece = {const_cast<std::byte*>(pages[end]), kPageSize};
      // Pages that were taken together lie together.
      for (++end; end < pages.size() && pages[end] == static_cast<std::byte*>(piece.iov_base) + piece.iov_len; ++end) {
        piece.iov_len += kPageSize;
      }
    }
    for (int first = 0; first < count;) {
      const ssize_t written = ::writev(fd, pieces + first, count - first);
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return os_error("writev", "page file");
      auto left = static_cast<std::size_t>(written);
      while (first < count && left >= pieces[first].iov_len) left -= pieces[first++].iov_len;
      if (first < count) {
        pieces[first].iov_base = static_cast<std::byte*>(pieces[first].iov_base) + left;
        pieces[first].iov_len -= left;
      }
    }
    next = end;
  }
  return {};
}

}  // namespace

Result<void> write_page_file(int dir_fd, const NewPageFile& file) {
  if (file.number == 0) return {};
  const std::string name = name_of(file.number);
  const auto write = [&]() -> Result<void> {
    UniqueFd fd = TRY(sys::open_at(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600));
    TRY(write_pages(fd.get(), file.pages));
    std::vector<std::uint64_t> checksums;
    checksums.reserve(file.pages.size());
    for (const std::byte* page : file.pages) checksums.push_back(XXH3_64bits(page, kPageSize));
    const std::size_t table_bytes = checksums.size() * sizeof(std::uint64_t);
    Footer footer{};
    std::memcpy(footer.magic, kMagic, sizeof kMagic);
    footer.version = kVersion;
    footer.pages = file.pages.size();
    footer.checksum = XXH3_64bits(checksums.data(), table_bytes);
    TRY(sys::write_all(fd.get(), checksums.data(), table_bytes));
    return sys::write_all(fd.get(), &footer, sizeof footer);
  };
  Result<void> written = write();
  if (!written.ok()) ::unlinkat(dir_fd, name.c_str(), 0);
  return written;
}

void PageFiles::remove(std::uint64_t number) {
  present_.erase(number);
  loaded_.erase(number);
  ::unlinkat(dir_fd_, name_of(number).c_str(), 0);
}

PagePlace PageFiles::place(PageId page) {
  if (page == kZeroPage) return {};
  if (locations_.size() < page) locations_.resize(page);
  Location& location = locations_[page - 1];
  if (location.place.file != 0 && location.generation == store_->generation(page) &&
      present_.contains(location.place.file)) {
    return location.place;
  }
  if (fresh_.number == 0) {
    fresh_.number = next_++;
    present_.insert(fresh_.number);
  }
  location = {{fresh_.number, static_cast<std::uint32_t>(fresh_.pages.size())}, store_->generation(page)};
  fresh_.pages.push_back(store_->bytes(page));
  return location.place;
}

Result<PageFiles::Loaded> PageFiles::load(std::uint64_t number) {
  Result<UniqueFd> opened = sys::open_at(dir_fd_, name_of(number), O_RDONLY | O_NOFOLLOW);
  if (!opened.ok()) return damaged(number, opened.error().describe());
  const UniqueFd& fd = opened.value();
  const auto size = static_cast<std::uint64_t>(TRY(sys::stat_fd(fd.get())).st_size);
  Footer footer{};
  if (size < sizeof footer) return damaged(number, "it is too short");
  const auto end = static_cast<off_t>(size - sizeof footer);
  if (::pread(fd.get(), &footer, sizeof footer, end) != static_cast<ssize_t>(sizeof footer) ||
      std::memcmp(footer.magic, kMagic, sizeof kMagic) != 0) {
    return damaged(number, "it has no footer");
  }
  if (footer.version != kVersion) {
    return make_error(Code::kUnsupported, "page file " + name_of(number) + " has another version",
                      "Use the version of DeltaBox that wrote it.");
  }
  const std::uint64_t page_bytes = kPageSize + sizeof(std::uint64_t);
  if (footer.pages == 0 || footer.pages > size / page_bytes || footer.pages * page_bytes + sizeof footer != size) {
    return damaged(number, "its length is wrong");
  }
  std::vector<std::uint64_t> checksums(footer.pages);
  const std::size_t table_bytes = checksums.size() * sizeof(std::uint64_t);
  if (::pread(fd.get(), checksums.data(), table_bytes, static_cast<off_t>(footer.pages * kPageSize)) !=
          static_cast<ssize_t>(table_bytes) ||
      XXH3_64bits(checksums.data(), table_bytes) != footer.checksum) {
    return damaged(number, "its table of checksums is wrong");
  }
  const PageId first = TRY(store_->adopt_file(fd.get(), footer.pages));
  TRY(side_by_side(checksums.size(), kPagesCheckedAtOnce, threads_worth(checksums.size() * kPageSize),
                   [&](std::size_t begin, std::size_t end) -> Result<void> {
                     for (std::size_t index = begin; index < end; ++index) {
                       const std::byte* page = std::as_const(*store_).bytes(first + static_cast<PageId>(index));
                       if (XXH3_64bits(page, kPageSize) == checksums[index]) continue;
                       return damaged(number, "the checksum of page " + std::to_string(index) + " is wrong");
                     }
                     return {};
                   }));
  const Loaded loaded{first, static_cast<std::uint32_t>(footer.pages)};
  if (locations_.size() < first - 1 + footer.pages) locations_.resize(first - 1 + footer.pages);
  for (std::uint32_t index = 0; index < loaded.pages; ++index) locations_[first - 1 + index] = {{number, index}, 0};
  present_.insert(number);
  loaded_[number] = loaded;
  return loaded;
}

Result<PageId> PageFiles::find(PagePlace place, std::uint32_t count) {
  if (place.file == 0) return kZeroPage;
  auto found = loaded_.find(place.file);
  if (found == loaded_.end() || !store_->is_mapped(found->second.first, found->second.pages)) {
    TRY(load(place.file));
    found = loaded_.find(place.file);
  }
  if (place.index >= found->second.pages || count > found->second.pages - place.index)
    return damaged(place.file, "it has too few pages");
  return found->second.first + place.index;
}

}  // namespace deltabox
