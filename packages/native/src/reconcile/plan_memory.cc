#include <sys/mman.h>

#include <algorithm>

#include "deltacr/address_space.h"
#include "reconcile/plan.h"

namespace deltabox {

namespace {

// The addresses at which either list starts or ends a mapping: between two neighbours both are constant.
std::vector<std::uint64_t> boundaries(const MappingList& first, const MappingList& second) {
  std::vector<std::uint64_t> points;
  points.reserve(2 * (first.size() + second.size()));
  for (const MappingList* list : {&first, &second}) {
    for (const Mapping& mapping : *list) {
      points.push_back(mapping.range.start);
      points.push_back(mapping.range.end);
    }
  }
  std::sort(points.begin(), points.end());
  points.erase(std::unique(points.begin(), points.end()), points.end());
  return points;
}

const Mapping* next_covering(const MappingList& list, std::size_t& cursor, std::uint64_t address) {
  while (cursor < list.size() && list[cursor].range.end <= address) ++cursor;
  return cursor < list.size() && list[cursor].range.contains(address) ? &list[cursor] : nullptr;
}

// Joins ranges that touch, when `same` says that they want the same.
template <typename Operation, typename Same>
void add_joined(std::vector<Operation>& operations, Operation operation, Same same) {
  if (!operations.empty() && operations.back().range.end == operation.range.start &&
      same(operations.back(), operation)) {
    operations.back().range.end = operation.range.end;
  } else {
    operations.push_back(std::move(operation));
  }
}

bool is_excluded(const Mapping* mapping, AddressRange excluded) {
  return mapping != nullptr && (mapping->is_kernel_provided() || mapping->range == excluded);
}

}  // namespace

MappingPlan plan_mappings(const MappingList& live, const MappingList& target, AddressRange excluded,
                          const std::set<int>& switched, const std::set<SharedObjectId>& renewed) {
  MappingPlan plan;
  const std::vector<std::uint64_t> points = boundaries(live, target);
  std::size_t live_cursor = 0;
  std::size_t target_cursor = 0;
  const Mapping* reported = nullptr;
  for (std::size_t index = 0; index + 1 < points.size(); ++index) {
    const AddressRange range{points[index], points[index + 1]};
    const Mapping* present = next_covering(live, live_cursor, range.start);
    const Mapping* wanted = next_covering(target, target_cursor, range.start);
    if (is_excluded(present, excluded) || is_excluded(wanted, excluded)) continue;
    if (wanted == nullptr) {
      if (present != nullptr) add_joined(plan.unmap, UnmapRange{range}, [](const auto&, const auto&) { return true; });
      continue;
    }
    if (present != nullptr && present->same_backing(*wanted) && !wanted->moves_with(switched, renewed)) {
      if (present->protection != wanted->protection) {
        add_joined(plan.protect, ProtectRange{range, wanted->protection},
                   [](const auto& a, const auto& b) { return a.protection == b.protection; });
      }
      continue;
    }
    const bool writable_shared = wanted->shared && ((wanted->protection & PROT_WRITE) != 0 || !wanted->has_file());
    if (writable_shared && wanted->volume < 0 && wanted->shared_object == 0) {
      if (reported != wanted) plan.unrestorable.push_back(*wanted);
      // Something else that lies there now must not pass for it.
      if (present != nullptr) add_joined(plan.unmap, UnmapRange{range}, [](const auto&, const auto&) { return true; });
      reported = wanted;
      continue;
    }
    add_joined(plan.map, MapRange{range, *wanted}, [](const auto& a, const auto& b) { return a.mapping == b.mapping; });
  }
  return plan;
}

PagePlan plan_pages(const PageMap& live, const PageMap& target, const MappingList& target_mappings,
                    const std::vector<MapRange>& remapped) {
  PagePlan plan;
  std::size_t remapped_cursor = 0;
  const auto in_remapped = [&](std::uint64_t address) {
    while (remapped_cursor < remapped.size() && remapped[remapped_cursor].range.end <= address) ++remapped_cursor;
    return remapped_cursor < remapped.size() && remapped[remapped_cursor].range.contains(address);
  };
  PageMap::for_each_difference(live, target, [&](PageNumber page, std::optional<PageId>, std::optional<PageId> wanted) {
    const std::uint64_t address = page << kPageShift;
    if (in_remapped(address)) return;  // written whole below
    if (wanted) {
      plan.writes.push_back({address, *wanted});
      return;
    }
    const Mapping* mapping = find_mapping(target_mappings, address);
    if (mapping == nullptr || !mapping->is_private_memory()) return;
    if (!plan.drops.empty() && plan.drops.back().end == address) {
      plan.drops.back().end += kPageSize;
    } else {
      plan.drops.push_back({address, address + kPageSize});
    }
  });
  for (const MapRange& part : remapped) {
    target.for_each(part.range.start >> kPageShift, part.range.end >> kPageShift,
                    [&](PageNumber page, PageId contents) {
                      plan.writes.push_back({page << kPageShift, contents});
                    });
  }
  if (!remapped.empty()) {
    std::sort(plan.writes.begin(), plan.writes.end(),
              [](const PageWrite& a, const PageWrite& b) { return a.address < b.address; });
  }
  return plan;
}

}  // namespace deltabox
