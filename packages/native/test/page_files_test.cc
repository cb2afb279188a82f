// Stored pages on the disk (images/page_files.h).
#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <cstring>

#include "images/page_files.h"
#include "scratch_dir.h"
#include "sys/files.h"

namespace deltabox::test {

namespace {

std::vector<PageId> make_pages(PageStore& store, int count, int seed) {
  std::vector<PageId> pages;
  REQUIRE(store.allocate(static_cast<std::size_t>(count), pages).ok());
  for (std::size_t index = 0; index < pages.size(); ++index) {
    std::memset(store.bytes(pages[index]), seed + static_cast<int>(index), kPageSize);
  }
  return pages;
}

}  // namespace

TEST_CASE("pages are written once, and another store reads what was written") {
  const ScratchDir dir;
  PageStore store;
  PageFiles files(dir.fd(), store);
  const std::vector<PageId> pages = make_pages(store, 700, 1);
  files.begin_file();
  for (const PageId page : pages) CHECK(files.place(page).file == 1);
  CHECK(files.place(kZeroPage).file == 0);
  const NewPageFile first = files.end_file();
  CHECK(first.pages.size() == 700);
  REQUIRE(write_page_file(dir.fd(), first).ok());

  const std::vector<PageId> more = make_pages(store, 2, 99);
  store.drop_reference(pages[5]);  // its slot gets other contents
  const PageId again = make_pages(store, 1, 55).front();
  REQUIRE(again == pages[5]);
  files.begin_file();
  CHECK(files.place(pages[6]).file == 1);
  CHECK(files.place(again).file == 2);
  CHECK(files.place(more[1]).index == 1);
  const NewPageFile second = files.end_file();
  CHECK(second.pages.size() == 2);
  REQUIRE(write_page_file(dir.fd(), second).ok());

  PageStore other;
  const std::vector<PageId> own = make_pages(other, 3, 7);
  PageFiles reader(dir.fd(), other);
  const Result<PageId> page = reader.find({1, 650});
  REQUIRE(page.ok());
  CHECK(std::memcmp(other.bytes(page.value()), store.bytes(pages[650]), kPageSize) == 0);
  CHECK(reader.find({1, 650}).value() == page.value());
  CHECK(static_cast<int>(*other.bytes(reader.find({2, 0}).value())) == 55);
  CHECK(other.stored_bytes() == 3 * kPageSize);
  // What was read counts as written.
  other.add_reference(page.value());
  reader.begin_after(2);
  reader.begin_file();
  CHECK(reader.place(page.value()).file == 1);
  CHECK(reader.end_file().number == 0);
  // Nobody refers to it any more: it is unmapped, and read again.
  other.drop_reference(page.value());
  CHECK_FALSE(other.is_mapped(page.value(), 1));
  CHECK(static_cast<int>(*other.bytes(reader.find({1, 0}).value())) == 1);
}

TEST_CASE("a page file that is not what was written is never used") {
  const ScratchDir dir;
  PageStore store;
  PageFiles files(dir.fd(), store);
  files.begin_file();
  for (const PageId page : make_pages(store, 3, 1)) files.place(page);
  REQUIRE(write_page_file(dir.fd(), files.end_file()).ok());
  UniqueFd file = sys::open_at(dir.fd(), "1", O_RDWR).release_value();
  const auto end = static_cast<std::size_t>(::lseek(file.get(), 0, SEEK_END));
  PageStore other;
  PageFiles reader(dir.fd(), other);
  for (std::size_t place : {std::size_t{0}, std::size_t{5000}, end - 30, end - 20, end - 1}) {
    CAPTURE(place);
    char byte = 0;
    REQUIRE(::pread(file.get(), &byte, 1, static_cast<off_t>(place)) == 1);
    const char other_byte = static_cast<char>(byte + 1);
    REQUIRE(::pwrite(file.get(), &other_byte, 1, static_cast<off_t>(place)) == 1);
    const Result<PageId> found = reader.find({1, 0});
    REQUIRE_FALSE(found.ok());
    CHECK((found.error().code == Code::kDamaged || found.error().code == Code::kUnsupported));
    REQUIRE(::pwrite(file.get(), &byte, 1, static_cast<off_t>(place)) == 1);
  }
  CHECK(reader.find({1, 0}).ok());
  CHECK(reader.find({1, 3}).error().code == Code::kDamaged);
  CHECK(reader.find({1, 1}, 2).ok());
  CHECK(reader.find({1, 1}, 3).error().code == Code::kDamaged);
  CHECK(reader.find({7, 0}).error().code == Code::kDamaged);
  REQUIRE(::ftruncate(file.get(), 100) == 0);
  PageStore third;
  CHECK(PageFiles(dir.fd(), third).find({1, 0}).error().code == Code::kDamaged);
}

}  // namespace deltabox::test
