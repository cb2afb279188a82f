#include "sys/files.h"

#include <fcntl.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include "expect.h"
#include "scratch_dir.h"

namespace deltabox::test {

namespace {

TEST_CASE("renames elsewhere on the machine do not keep a path from being opened in its root") {
  const ScratchDir scratch;
  std::filesystem::create_directories(scratch.path() + "/root/a/b");
  std::filesystem::create_directory(scratch.path() + "/x");
  const UniqueFd root = must(sys::open_at(AT_FDCWD, scratch.path() + "/root", O_PATH | O_DIRECTORY));
  std::atomic<bool> done{false};
  std::thread renames([&] {
    while (!done) {
      std::filesystem::rename(scratch.path() + "/x", scratch.path() + "/y");
      std::filesystem::rename(scratch.path() + "/y", scratch.path() + "/x");
    }
  });
  int failures = 0;
  for (int round = 0; round < 2'000; ++round) {
    failures += sys::open_in_root(root.get(), "a/b/../../a/b/../..", O_PATH).ok() ? 0 : 1;
    failures += sys::open_beneath(root.get(), "a/b/../../a/b/..", O_PATH).ok() ? 0 : 1;
  }
  done = true;
  renames.join();
  CHECK(failures == 0);
}

}  // namespace

}  // namespace deltabox::test
