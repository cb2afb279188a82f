#include "images/image_store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/fault.h"
#include "base/packed_record.h"
#include "images/archive.h"
#include "images/image_archive.h"
#include "sys/files.h"

namespace deltabox {

namespace {

constexpr const char* kImages = "images";
constexpr const char* kPages = "pages";
constexpr std::size_t kMaxHeadBytes = 64u << 20;
constexpr std::size_t kMaxImageBytes = std::size_t{4} << 30;

// What is known of an image without reading it.
struct Head {
  Machine machine;
  std::vector<std::string> volumes;
  std::vector<std::uint64_t> files;
};

template <typename A>
void archive(A& a, Head& head) {
  images::parts(a, head.machine.image_layout, head.machine.kernel, head.machine.vdso_hash, head.machine.xstate_bytes,
                head.machine.xstate_mask, head.volumes, head.files);
}

Error damaged(const std::string& id, const std::string& what) {
  return make_error(Code::kDamaged, "the image of " + id + " is damaged: " + what,
                    "Use another checkpoint; what is damaged is never used.");
}

struct OpenImage {
  UniqueFd fd;
  Head head;
};

// An image's file: the length of its head's record, that record, the image's record.
Result<OpenImage> open_image(int dir_fd, const std::string& id) {
  Result<UniqueFd> opened = sys::open_at(dir_fd, id, O_RDONLY | O_NOFOLLOW);
  if (!opened.ok()) return damaged(id, opened.error().describe());
  OpenImage image{opened.release_value(), {}};
  std::uint64_t length = 0;
  if (::read(image.fd.get(), &length, sizeof length) != static_cast<ssize_t>(sizeof length) || length > kMaxHeadBytes) {
    return damaged(id, "it is too short");
  }
  std::string record(length, '\0');
  if (::read(image.fd.get(), record.data(), length) != static_cast<ssize_t>(length)) {
    return damaged(id, "it is too short");
  }
  const std::string head = TRY(unpack_record(record, "the image of " + id));
  images::Reader reader(head);
  archive(reader, image.head);
  if (reader.failed() || !reader.at_end()) return damaged(id, "its head can't be parsed");
  return image;
}

Result<UniqueFd> open_dir(int store_fd, const char* name) {
  const Result<void> made = sys::make_dir_at(store_fd, name, 0700);
  if (!made.ok() && made.error().os_errno != EEXIST) return made.error();
  return sys::open_at(store_fd, name, O_RDONLY | O_DIRECTORY);
}

}  // namespace

Result<ImageStore> ImageStore::open(int store_fd, int self_fd_dir, PageStore& pages, StoredFiles& files) {
  ImageStore store;
  store.dir_ = TRY(open_dir(store_fd, kImages));
  store.page_dir_ = TRY(open_dir(store_fd, kPages));
  store.self_fd_dir_ = self_fd_dir;
  store.store_ = &pages;
  store.files_ = &files;
  store.machine_ = TRY(this_machine());
  store.pages_ = std::make_unique<PageFiles>(store.page_dir_.get(), pages);
  for (const std::string& id : TRY(sys::list_dir(store.dir_.get()))) {
    // One that is damaged stays, so that a rollback to it can say so.
    if (id.ends_with(".new")) {
      ::unlinkat(store.dir_.get(), id.c_str(), 0);
      continue;
    }
    std::set<std::uint64_t>& needs = store.needs_[id];
    const Result<OpenImage> image = open_image(store.dir_.get(), id);
    if (image.ok()) needs.insert(image.value().head.files.begin(), image.value().head.files.end());
    for (const std::uint64_t file : needs) ++store.users_[file];
  }
  std::uint64_t last = 0;
  for (const std::string& name : TRY(sys::list_dir(store.page_dir_.get()))) {
    const std::uint64_t number = std::strtoull(name.c_str(), nullptr, 10);
    last = std::max(last, number);
    if (!store.users_.contains(number)) store.pages_->remove(number);
  }
  store.pages_->begin_after(last);
  return store;
}

std::vector<std::string> ImageStore::all() const {
  std::vector<std::string> ids;
  for (const auto& [id, files] : needs_) ids.push_back(id);
  return ids;
}

std::set<std::uint64_t> ImageStore::files_of(const std::string& id) const {
  const auto found = needs_.find(id);
  return found != needs_.end() ? found->second : std::set<std::uint64_t>();
}

Result<PreparedImage> ImageStore::prepare(const std::string& id, std::shared_ptr<const TreeImage> image,
                                          const std::vector<std::string>& volumes) {
  PreparedImage prepared;
  prepared.id = id;
  pages_->begin_file();
  Result<WrittenImage> written = write_image(*image, *pages_);
  prepared.pages = pages_->end_file();
  if (!written.ok()) {
    if (prepared.pages.number != 0) pages_->give_up(prepared.pages.number);
    return written.release_error();
  }
  prepared.needs = std::move(written.value().files);
  prepared.image = std::move(image);
  Head head{machine_, volumes, {prepared.needs.begin(), prepared.needs.end()}};
  images::Writer writer;
  archive(writer, head);
  const std::string record = pack_record(writer.take());
  const std::uint64_t length = record.size();
  prepared.file.assign(reinterpret_cast<const char*>(&length), sizeof length);
  prepared.file += record;
  prepared.file += pack_record(written.value().bytes);
  for (const std::uint64_t file : prepared.needs) ++users_[file];
  return prepared;
}

Result<void> ImageStore::write(const PreparedImage& prepared) const {
  TRY(write_page_file(page_dir_.get(), prepared.pages));
  fault_point(FaultPoint::kPagesWritten);
  const std::string temporary = prepared.id + ".new";
  Result<void> written = sys::write_file_at(dir_.get(), temporary, prepared.file);
  if (!written.ok()) {
    ::unlinkat(dir_.get(), temporary.c_str(), 0);
    return written;
  }
  fault_point(FaultPoint::kImageBeside);
  if (::renameat(dir_.get(), temporary.c_str(), dir_.get(), prepared.id.c_str()) != 0) {
    return os_error("renameat", prepared.id);
  }
  return {};
}

void ImageStore::enter(PreparedImage prepared, bool written, bool wanted) {
  if (!written && prepared.pages.number != 0) lost_.insert(prepared.pages.number);
  // Another one may have counted on the pages of a file that was not written.
  const bool whole = std::none_of(prepared.needs.begin(), prepared.needs.end(),
                                  [&](std::uint64_t file) { return lost_.contains(file); });
  if (written && whole && wanted) {
    needs_[prepared.id] = std::move(prepared.needs);
    return;
  }
  if (written) ::unlinkat(dir_.get(), prepared.id.c_str(), 0);
  give_back(prepared.needs);
}

void ImageStore::give_back(const std::set<std::uint64_t>& files) {
  for (const std::uint64_t file : files) {
    const auto found = users_.find(file);
    if (found == users_.end() || --found->second > 0) continue;
    users_.erase(found);
    lost_.erase(file);
    pages_->remove(file);
  }
}

void ImageStore::remove(const std::string& id) {
  const auto found = needs_.find(id);
  if (found == needs_.end()) return;
  ::unlinkat(dir_.get(), id.c_str(), 0);
  give_back(found->second);
  needs_.erase(found);
}

Result<std::shared_ptr<const TreeImage>> ImageStore::read(const std::string& id,
                                                          const std::vector<std::string>& volumes) {
  OpenImage opened = TRY(open_image(dir_.get(), id));
  const auto incompatible = [](const std::string& why) {
    return make_error(Code::kColdIncompatible, "the processes can't be brought back here: " + why,
                      "Its files can be used; roll back on the machine, and under the kernel, that took it for more.");
  };
  if (const std::string why = machine_difference(opened.head.machine, machine_); !why.empty()) return incompatible(why);
  if (opened.head.volumes != volumes) return incompatible("the sandbox has other volumes");
  const std::string file = TRY(sys::read_all(opened.fd.get(), kMaxImageBytes));
  const std::string bytes = TRY(unpack_record(file, "the image of " + id));
  return std::shared_ptr<const TreeImage>(
      TRY(read_image(bytes, "the image of " + id, {*pages_, *store_, self_fd_dir_, *files_})));
}

Result<std::vector<std::string>> image_files(int store_fd, const std::string& id) {
  UniqueFd dir = TRY(sys::open_at(store_fd, kImages, O_RDONLY | O_DIRECTORY));
  const OpenImage image = TRY(open_image(dir.get(), id));
  std::vector<std::string> files{std::string(kImages) + "/" + id};
  for (const std::uint64_t file : image.head.files) files.push_back(std::string(kPages) + "/" + std::to_string(file));
  return files;
}

}  // namespace deltabox
