#include "deltafs/layer_digest.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <vector>

#include "sys/files.h"

namespace deltabox {

namespace {

constexpr int kMaxTreeDepth = 2048;  // PATH_MAX / 2
constexpr std::size_t kChunkBytes = std::size_t{256} * 1024;
constexpr std::size_t kMaxXattrBytes = std::size_t{64} * 1024;  // XATTR_LIST_MAX, XATTR_SIZE_MAX
constexpr const char* kDigest = "../digest";
constexpr const char* kNewDigest = "../digest.new";

class Digest {
 public:
  Digest() : state_(XXH3_createState(), &XXH3_freeState) { XXH3_64bits_reset(state_.get()); }
  void add(const void* data, std::size_t size_bytes) { XXH3_64bits_update(state_.get(), data, size_bytes); }
  void add(const std::string& text) {
    add(std::uint64_t{text.size()});
    add(text.data(), text.size());
  }
  void add(std::uint64_t number) { add(&number, sizeof number); }
  std::uint64_t value() const { return XXH3_64bits_digest(state_.get()); }

 private:
  std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state_;
};

void add_attributes(Digest& digest, int fd) {
  std::vector<char> list(kMaxXattrBytes);
  const ssize_t length = ::flistxattr(fd, list.data(), list.size());
  std::vector<std::string> names;
  for (ssize_t start = 0; start < length;) {
    names.emplace_back(list.data() + start);
    start += static_cast<ssize_t>(names.back().size()) + 1;
  }
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) {
    const ssize_t size = ::fgetxattr(fd, name.c_str(), list.data(), list.size());
    digest.add(name);
    digest.add(std::string(list.data(), size > 0 ? static_cast<std::size_t>(size) : 0));
  }
}

Result<void> add_contents(Digest& digest, int fd, std::vector<char>& buffer) {
  for (;;) {
    const ssize_t count = ::read(fd, buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return os_error("read", "a file of a layer");
    if (count == 0) return {};
    digest.add(buffer.data(), static_cast<std::size_t>(count));
  }
}

Result<void> add_dir(Digest& digest, int dir_fd, int depth, std::vector<char>& buffer) {
  if (depth > kMaxTreeDepth) return make_error(Code::kTooLarge, "a layer is nested deeper than 2,048 directories");
  std::vector<std::string> names = TRY(sys::list_dir(dir_fd));
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) {
    struct stat info {};
    if (::fstatat(dir_fd, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) return os_error("fstatat", name);
    digest.add(name);
    for (const std::uint64_t field :
         {std::uint64_t{info.st_mode}, std::uint64_t{info.st_uid}, std::uint64_t{info.st_gid},
          static_cast<std::uint64_t>(info.st_mtim.tv_sec), static_cast<std::uint64_t>(info.st_mtim.tv_nsec)}) {
      digest.add(field);
    }
    if (S_ISLNK(info.st_mode)) {
      digest.add(TRY(sys::read_link_at(dir_fd, name)));
    } else if (S_ISREG(info.st_mode)) {
      UniqueFd file = TRY(sys::open_at(dir_fd, name, O_RDONLY | O_NOFOLLOW));
      digest.add(static_cast<std::uint64_t>(info.st_size));
      TRY(add_contents(digest, file.get(), buffer));
      add_attributes(digest, file.get());
    } else if (S_ISDIR(info.st_mode)) {
      UniqueFd child = TRY(sys::open_at(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
      add_attributes(digest, child.get());
      TRY(add_dir(digest, child.get(), depth + 1, buffer));
    }
    digest.add(std::uint64_t{0});
  }
  return {};
}

}  // namespace

Result<std::uint64_t> digest_of(int layer_dir_fd) {
  Digest digest;
  std::vector<char> buffer(kChunkBytes);
  UniqueFd dir = TRY(sys::open_at(layer_dir_fd, ".", O_RDONLY | O_DIRECTORY));
  TRY(add_dir(digest, dir.get(), 0, buffer));
  return digest.value();
}

Result<void> write_digest(const Layer& layer) {
  const LayerDir dir = TRY(layer.open());
  const std::uint64_t digest = TRY(digest_of(dir->get()));
  // Whole or not at all: half a digest would condemn the layer.
  TRY(sys::write_file_at(dir->get(), kNewDigest, std::to_string(digest) + "\n"));
  if (::renameat(dir->get(), kNewDigest, dir->get(), kDigest) != 0) return os_error("renameat", kDigest);
  return {};
}

bool has_digest(const Layer& layer) {
  const Result<LayerDir> dir = layer.open();
  return dir.ok() && ::faccessat(dir.value()->get(), kDigest, F_OK, 0) == 0;
}

Result<std::string> check_digest(const Layer& layer, bool required) {
  const LayerDir dir = TRY(layer.open());
  const Result<std::string> known = sys::read_file_at(dir->get(), kDigest, 64);
  if (!known.ok()) return required ? std::string("it was not complete on the disk") : std::string();
  const Result<std::uint64_t> digest = digest_of(dir->get());
  if (!digest.ok()) return "it can't be read: " + digest.error().describe();
  return std::strtoull(known.value().c_str(), nullptr, 10) == digest.value() ? std::string()
                                                                             : std::string("its contents were changed");
}

}  // namespace deltabox
