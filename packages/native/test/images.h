// Images made by hand, as short as the tests that read them.
#pragma once

#include <sys/mman.h>

#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "deltacr/image.h"

namespace deltabox::test {

inline constexpr int kReadWrite = PROT_READ | PROT_WRITE;

// Addresses in tests are page numbers times this.
inline constexpr std::uint64_t page(std::uint64_t number) { return number * kPageSize; }
inline AddressRange pages(std::uint64_t first, std::uint64_t last) { return {page(first), page(last)}; }

inline Mapping anonymous(std::uint64_t first, std::uint64_t last, int protection = kReadWrite) {
  Mapping mapping;
  mapping.range = pages(first, last);
  mapping.protection = protection;
  return mapping;
}

inline Mapping file_mapping(std::uint64_t first, std::uint64_t last, std::uint64_t inode, std::uint64_t file_page = 0,
                            int protection = PROT_READ) {
  Mapping mapping = anonymous(first, last, protection);
  mapping.device = 1;
  mapping.inode = inode;
  mapping.file_offset = page(file_page);
  mapping.name = "/file-" + std::to_string(inode);
  return mapping;
}

inline Mapping shared(Mapping mapping) {
  mapping.shared = true;
  return mapping;
}

inline ProcessImage process(Incarnation incarnation, std::initializer_list<int> threads) {
  ProcessImage image;
  image.incarnation = incarnation;
  image.pid = InsidePid{static_cast<pid_t>(incarnation)};
  for (const int tid : threads) {
    ThreadImage thread;
    thread.tid = HostTid{tid};
    thread.inside = image.threads.empty() ? image.pid : InsidePid{tid};
    image.threads.push_back(std::move(thread));
  }
  return image;
}

inline Description file(const std::string& path, std::uint64_t inode, int flags = 0, int volume = 0) {
  Description description;
  description.kind = DescriptionKind::kFile;
  description.type = "file";
  description.path = path;
  description.inode = inode;
  description.device = 1;
  description.status_flags = flags;
  description.volume = volume;
  return description;
}

inline Description socket_description(std::uint64_t inode) {
  Description description;
  description.type = "socket";
  description.inode = inode;
  return description;
}

}  // namespace deltabox::test
