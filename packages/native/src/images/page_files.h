// Stored pages on the disk: a page that was written once is not written again while the file that has it is there.
//
// A page file is immutable: its pages, in a row; the checksum of each; a footer. Files are numbered in the order of
// their making. Which images need which files is the image store's business.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "pagestore/page_store.h"

namespace deltabox {

// Where a page lies. File 0: the page is zero.
struct PagePlace {
  std::uint64_t file = 0;
  std::uint32_t index = 0;
};

// The pages of one new file, as they lie in memory. Whoever prepared it sees to it that they stay what they are until
// it is written; then any thread can write it.
struct NewPageFile {
  std::uint64_t number = 0;  // 0: there is nothing to write
  std::vector<const std::byte*> pages;
};
Result<void> write_page_file(int dir_fd, const NewPageFile& file);

class PageFiles {
 public:
  PageFiles() = default;
  // dir_fd: where the files lie; outlives this.
  PageFiles(int dir_fd, PageStore& store) : dir_fd_(dir_fd), store_(&store) {}
  // Numbers are given from here on.
  void begin_after(std::uint64_t number) { next_ = number + 1; }
  // Removes a file, and with it what is known of its pages.
  void remove(std::uint64_t number);

  // Starts a new file; its number is given once it gets a page.
  void begin_file() { fresh_ = {}; }
  // Where the page is, or will be when the new file is written.
  PagePlace place(PageId page);
  NewPageFile end_file() { return std::move(fresh_); }
  // The file could not be written.
  void give_up(std::uint64_t number) { remove(number); }

  // The stored page, the first of `count` in a row; reads its file, and checks all of it, when it is not in memory. No
  // reference is added.
  Result<PageId> find(PagePlace place, std::uint32_t count = 1);

 private:
  struct Location {
    PagePlace place;
    std::uint32_t generation = 0;
  };
  struct Loaded {
    PageId first = 0;
    std::uint32_t pages = 0;
  };
  Result<Loaded> load(std::uint64_t number);

  int dir_fd_ = -1;
  PageStore* store_ = nullptr;
  std::uint64_t next_ = 1;
  std::vector<Location> locations_;  // by PageId - 1
  std::set<std::uint64_t> present_;  // files that were written or read
  std::map<std::uint64_t, Loaded> loaded_;
  NewPageFile fresh_;
};

}  // namespace deltabox
