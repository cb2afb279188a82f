// The contents of one address space: page number → stored page. Immutable; a change makes a new map that shares all
// unchanged nodes with the old one, so that two checkpoints differ by a walk of what they do not share.
//
// The structure is a radix tree of 6 bits per level over 36-bit page numbers, its nodes compressed by a bitmap of the
// children that exist (as in Bagwell's hash array mapped tries).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>

#include "base/ids.h"
#include "pagestore/page_store.h"

namespace deltabox {

using PageNumber = std::uint64_t;

struct PageUpdate {
  PageNumber page = 0;
  std::optional<PageId> contents;  // nullopt erases
};

class PageMap {
 public:
  struct Node;

  PageMap() = default;
  PageMap(const PageMap& other);
  PageMap(PageMap&& other) noexcept;
  PageMap& operator=(PageMap other) noexcept;
  ~PageMap();

  // Updates must be sorted by page and name each page once. Takes over one reference of every page they name.
  static PageMap updated(const PageMap& map, std::span<const PageUpdate> updates, PageStore& store);

  std::optional<PageId> find(PageNumber page) const;
  std::uint64_t size() const { return size_; }
  // In order of pages, within [first, last).
  void for_each(PageNumber first, PageNumber last, const std::function<void(PageNumber, PageId)>& visit) const;
  // Calls visit for every page whose stored page differs; shared subtrees are skipped.
  using DifferenceVisitor = std::function<void(PageNumber, std::optional<PageId> from, std::optional<PageId> to)>;
  static void for_each_difference(const PageMap& from, const PageMap& to, const DifferenceVisitor& visit);

 private:
  PageMap(Node* root, std::uint64_t size, PageStore* store) : root_(root), size_(size), store_(store) {}

  Node* root_ = nullptr;
  std::uint64_t size_ = 0;
  PageStore* store_ = nullptr;
};

}  // namespace deltabox
