#include "sys/file_copy.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include "expect.h"
#include "random.h"
#include "scratch_dir.h"
#include "sys/files.h"

namespace deltabox::test {

namespace {

constexpr off_t kPiece = off_t{64} * 1024;

// A file of up to 16 pieces, each a hole or bytes of few kinds, so that two of them agree in places.
UniqueFd random_file(const ScratchDir& scratch, const std::string& name, Random& random) {
  UniqueFd file = must(sys::open_at(AT_FDCWD, scratch.path() + "/" + name, O_RDWR | O_CREAT | O_TRUNC, 0600));
  const off_t size = static_cast<off_t>(random.below(16)) * kPiece + static_cast<off_t>(random.below(10'000));
  REQUIRE(::ftruncate(file.get(), size) == 0);
  for (off_t at = 0; at < size; at += kPiece) {
    const std::uint64_t kind = random.below(4);
    if (kind == 0) continue;
    const std::string piece(static_cast<std::size_t>(std::min(kPiece, size - at)), static_cast<char>('a' + kind));
    REQUIRE(::pwrite(file.get(), piece.data(), piece.size(), at) == static_cast<ssize_t>(piece.size()));
  }
  return file;
}

TEST_CASE("what differs, once applied, makes two files the same") {
  const ScratchDir scratch;
  Random random(1);
  for (int round = 0; round < 200; ++round) {
    CAPTURE(round);
    const UniqueFd wanted = random_file(scratch, "wanted", random);
    const UniqueFd present = random_file(scratch, "present", random);
    const sys::FileDifferences found = must(sys::find_differences(wanted.get(), present.get()));
    std::uint64_t differing = 0;
    for (const auto& range : found.ranges)
      differing += range.is_hole ? 0 : static_cast<std::uint64_t>(range.size_bytes);
    CHECK(must(sys::apply_differences(found, wanted.get(), present.get())) == differing);
    CHECK(must(sys::same_file_data(wanted.get(), present.get())));
    CHECK(must(sys::stat_fd(wanted.get())).st_size == must(sys::stat_fd(present.get())).st_size);
    for (const auto& range : must(sys::find_differences(wanted.get(), present.get())).ranges) {
      // A hole can't begin within the last block.
      CHECK(range.is_hole);
      CHECK(range.offset / 4096 == found.size_bytes / 4096);
    }
  }
}

TEST_CASE("an edit of one byte is one block that differs") {
  const ScratchDir scratch;
  Random random(2);
  const std::string text(300'000, 'x');
  UniqueFd files[2];
  for (int index = 0; index < 2; ++index) {
    files[index] = must(sys::open_at(AT_FDCWD, scratch.path() + "/" + std::to_string(index), O_RDWR | O_CREAT, 0600));
    must(sys::write_all(files[index].get(), text.data(), text.size()));
  }
  REQUIRE(::pwrite(files[1].get(), "y", 1, 200'000) == 1);
  const sys::FileDifferences found = must(sys::find_differences(files[0].get(), files[1].get()));
  REQUIRE(found.ranges.size() == 1);
  CHECK(found.ranges[0].offset == 200'000 / 4096 * 4096);
  CHECK(found.ranges[0].size_bytes == 4096);
}

}  // namespace

}  // namespace deltabox::test
