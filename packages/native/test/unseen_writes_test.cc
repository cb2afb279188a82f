#include "deltacr/unseen_writes.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "expect.h"
#include "scratch_dir.h"
#include "sys/files.h"

namespace deltabox::test {

namespace {

constexpr std::size_t kBytes = 4096;

std::set<std::string> own_names() {
  const UniqueFd proc = must(sys::open_at(AT_FDCWD, "/proc", O_PATH | O_DIRECTORY));
  std::set<std::string> found;
  must(add_unseen_writes(proc.get(), HostTid{::getpid()}, found));
  return found;
}

UniqueFd open_new(const ScratchDir& scratch, const std::string& name, int flags = 0) {
  return must(sys::open_at(AT_FDCWD, scratch.path() + "/" + name, O_RDWR | O_CREAT | flags, 0600));
}

TEST_CASE("the files that a process has mapped shared, and no others, are named") {
  const ScratchDir scratch;
  const auto map = [&](const std::string& name, int flags) {
    const UniqueFd file = open_new(scratch, name);
    REQUIRE(::ftruncate(file.get(), kBytes) == 0);
    void* const at = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, flags, file.get(), 0);
    REQUIRE(at != MAP_FAILED);
    return at;
  };
  void* const shared = map("a shared one", MAP_SHARED);
  void* const own = map("a private one", MAP_PRIVATE);
  CHECK(own_names().contains("a shared one"));
  CHECK_FALSE(own_names().contains("a private one"));
  REQUIRE(::munmap(shared, kBytes) == 0);
  CHECK_FALSE(own_names().contains("a shared one"));
  REQUIRE(::munmap(own, kBytes) == 0);
}

TEST_CASE("the files that a process has open for direct I/O, and no others, are named") {
  const ScratchDir scratch;
  UniqueFd direct = open_new(scratch, "a direct one", O_DIRECT);
  const UniqueFd plain = open_new(scratch, "a plain one");
  CHECK(own_names().contains("a direct one"));
  CHECK_FALSE(own_names().contains("a plain one"));
  direct.reset();
  CHECK_FALSE(own_names().contains("a direct one"));
}

TEST_CASE("a process that is gone has nothing open") {
  const UniqueFd proc = must(sys::open_at(AT_FDCWD, "/proc", O_PATH | O_DIRECTORY));
  std::set<std::string> found;
  must(add_unseen_writes(proc.get(), HostTid{0x3fffffff}, found));
  CHECK(found.empty());
}

}  // namespace

}  // namespace deltabox::test
