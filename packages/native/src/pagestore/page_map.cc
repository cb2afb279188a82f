#include "pagestore/page_map.h"

#include <bit>
#include <cassert>
#include <cstdlib>
#include <new>
#include <utility>

namespace deltabox {

namespace {
constexpr int kBits = 6;
constexpr int kTopShift = 30;  // 36-bit page numbers: shifts 30, 24, …, 0; a leaf has shift 0
constexpr unsigned kMask = 63;

unsigned slot_of(PageNumber page, int shift) { return static_cast<unsigned>(page >> shift) & kMask; }
}  // namespace

// Entries are child pointers above shift 0 and page ids at shift 0, in the order of the bitmap's set bits.
struct PageMap::Node {
  std::uint32_t references = 1;
  std::uint64_t bitmap = 0;

  static Node* make(std::uint64_t bitmap, bool leaf) {
    const std::size_t count = static_cast<std::size_t>(std::popcount(bitmap));
    void* memory = std::malloc(sizeof(Node) + count * (leaf ? sizeof(PageId) : sizeof(Node*)));
    if (memory == nullptr) std::abort();
    Node* node = new (memory) Node();
    node->bitmap = bitmap;
    return node;
  }
  Node** children() { return reinterpret_cast<Node**>(this + 1); }
  PageId* pages() { return reinterpret_cast<PageId*>(this + 1); }
  bool has(unsigned slot) const { return (bitmap >> slot & 1) != 0; }
  std::size_t index(unsigned slot) const {
    return static_cast<std::size_t>(std::popcount(bitmap & ((std::uint64_t{1} << slot) - 1)));
  }
  Node* child(unsigned slot) { return has(slot) ? children()[index(slot)] : nullptr; }
};

namespace {

using Node = PageMap::Node;

void drop(Node* node, int shift, PageStore& store) {
  if (node == nullptr || --node->references > 0) return;
  const int count = std::popcount(node->bitmap);
  for (int index = 0; index < count; ++index) {
    if (shift == 0) {
      store.drop_reference(node->pages()[index]);
    } else {
      drop(node->children()[index], shift - kBits, store);
    }
  }
  node->~Node();
  std::free(node);
}

Node* update_leaf(Node* old, std::span<const PageUpdate> updates, PageStore& store, std::int64_t& growth) {
  PageId pages[64];
  std::uint64_t bitmap = old != nullptr ? old->bitmap : 0;
  std::uint64_t kept = bitmap;
  if (old != nullptr) {
    std::size_t index = 0;
    for (unsigned slot = 0; slot < 64; ++slot) {
      if (old->has(slot)) pages[slot] = old->pages()[index++];
    }
  }
  for (const PageUpdate& update : updates) {
    const unsigned slot = slot_of(update.page, 0);
    const std::uint64_t bit = std::uint64_t{1} << slot;
    kept &= ~bit;
    if (update.contents) {
      growth += (bitmap & bit) == 0 ? 1 : 0;
      bitmap |= bit;
      pages[slot] = *update.contents;
    } else {
      growth -= (bitmap & bit) != 0 ? 1 : 0;
      bitmap &= ~bit;
    }
  }
  if (bitmap == 0) return nullptr;
  Node* node = Node::make(bitmap, true);
  std::size_t index = 0;
  for (unsigned slot = 0; slot < 64; ++slot) {
    if (!node->has(slot)) continue;
    node->pages()[index++] = pages[slot];
    // An updated page brought its reference along; a kept one is now also referred to by the new leaf.
    if ((kept >> slot & 1) != 0) store.add_reference(pages[slot]);
  }
  return node;
}

// Returns a node with one reference for the caller, or null when nothing is left.
Node* update(Node* old, int shift, std::span<const PageUpdate> updates, PageStore& store, std::int64_t& growth) {
  if (shift == 0) return update_leaf(old, updates, store, growth);
  Node* children[64] = {};
  std::uint64_t bitmap = 0;
  std::size_t next = 0;
  for (unsigned slot = 0; slot < 64; ++slot) {
    Node* child = old != nullptr ? old->child(slot) : nullptr;
    std::size_t end = next;
    while (end < updates.size() && slot_of(updates[end].page, shift) == slot) ++end;
    if (end > next) {
      children[slot] = update(child, shift - kBits, updates.subspan(next, end - next), store, growth);
      next = end;
    } else if (child != nullptr) {
      ++child->references;
      children[slot] = child;
    }
    if (children[slot] != nullptr) bitmap |= std::uint64_t{1} << slot;
  }
  assert(next == updates.size());
  if (bitmap == 0) return nullptr;
  Node* node = Node::make(bitmap, false);
  std::size_t index = 0;
  for (unsigned slot = 0; slot < 64; ++slot) {
    if (children[slot] != nullptr) node->children()[index++] = children[slot];
  }
  return node;
}

void visit_range(Node* node, int shift, PageNumber base, PageNumber first, PageNumber last,
                 const std::function<void(PageNumber, PageId)>& visit) {
  std::size_t index = 0;
  for (unsigned slot = 0; slot < 64; ++slot) {
    if (!node->has(slot)) continue;
    const std::size_t entry = index++;
    const PageNumber start = base + (static_cast<PageNumber>(slot) << shift);
    const PageNumber end = start + (PageNumber{1} << shift);
    if (end <= first || start >= last) continue;
    if (shift == 0) {
      visit(start, node->pages()[entry]);
    } else {
      visit_range(node->children()[entry], shift - kBits, start, first, last, visit);
    }
  }
}

void visit_difference(Node* from, Node* to, int shift, PageNumber base, const PageMap::DifferenceVisitor& visit) {
  if (from == to) return;
  for (unsigned slot = 0; slot < 64; ++slot) {
    const PageNumber start = base + (static_cast<PageNumber>(slot) << shift);
    const bool in_from = from != nullptr && from->has(slot);
    const bool in_to = to != nullptr && to->has(slot);
    if (!in_from && !in_to) continue;
    if (shift == 0) {
      const std::optional<PageId> a = in_from ? std::optional(from->pages()[from->index(slot)]) : std::nullopt;
      const std::optional<PageId> b = in_to ? std::optional(to->pages()[to->index(slot)]) : std::nullopt;
      if (a != b) visit(start, a, b);
    } else {
      visit_difference(in_from ? from->child(slot) : nullptr, in_to ? to->child(slot) : nullptr, shift - kBits, start,
                       visit);
    }
  }
}

}  // namespace

PageMap::PageMap(const PageMap& other) : root_(other.root_), size_(other.size_), store_(other.store_) {
  if (root_ != nullptr) ++root_->references;
}

PageMap::PageMap(PageMap&& other) noexcept
    : root_(std::exchange(other.root_, nullptr)), size_(std::exchange(other.size_, 0)), store_(other.store_) {}

PageMap& PageMap::operator=(PageMap other) noexcept {
  std::swap(root_, other.root_);
  std::swap(size_, other.size_);
  std::swap(store_, other.store_);
  return *this;
}

PageMap::~PageMap() {
  if (root_ != nullptr) drop(root_, kTopShift, *store_);
}

PageMap PageMap::updated(const PageMap& map, std::span<const PageUpdate> updates, PageStore& store) {
  if (updates.empty()) return map;
  std::int64_t growth = 0;
  Node* root = update(map.root_, kTopShift, updates, store, growth);
  return PageMap(root, static_cast<std::uint64_t>(static_cast<std::int64_t>(map.size_) + growth), &store);
}

std::optional<PageId> PageMap::find(PageNumber page) const {
  Node* node = root_;
  for (int shift = kTopShift; node != nullptr; shift -= kBits) {
    const unsigned slot = slot_of(page, shift);
    if (!node->has(slot)) return std::nullopt;
    if (shift == 0) return node->pages()[node->index(slot)];
    node = node->children()[node->index(slot)];
  }
  return std::nullopt;
}

void PageMap::for_each(PageNumber first, PageNumber last, const std::function<void(PageNumber, PageId)>& visit) const {
  if (root_ != nullptr && first < last) visit_range(root_, kTopShift, 0, first, last, visit);
}

void PageMap::for_each_difference(const PageMap& from, const PageMap& to, const DifferenceVisitor& visit) {
  visit_difference(from.root_, to.root_, kTopShift, 0, visit);
}

}  // namespace deltabox
