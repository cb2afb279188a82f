#include <fcntl.h>
#include <sys/mman.h>

#include "deltacr/shared_memory.h"
#include "expect.h"
#include "images.h"
#include "reconcile/plan.h"

namespace deltabox::test {

namespace {

Mapping object_mapping(std::uint64_t first, std::uint64_t last, SharedObjectId object, std::uint64_t object_page = 0,
                       int protection = kReadWrite) {
  Mapping mapping = shared(file_mapping(first, last, 40 + object, object_page, protection));
  mapping.shared_object = object;
  return mapping;
}

struct Tree {
  PageStore store;
  std::vector<PageId> stored;
  Tree() { must(store.allocate(4, stored)); }

  SharedMemory memory(SharedObjectId id, std::vector<PageUpdate> contents) {
    for (const PageUpdate& update : contents) store.add_reference(*update.contents);
    SharedMemory object;
    object.id = id;
    object.size_bytes = page(8);
    object.pages = PageMap::updated(PageMap(), contents, store);
    return object;
  }
};

TreeImage image_of(std::vector<MappingList> by_process, SharedMemory object) {
  TreeImage image;
  Incarnation incarnation = 1;
  for (MappingList& mappings : by_process) {
    image.processes.push_back(process(incarnation, {static_cast<int>(incarnation)}));
    image.processes.back().mappings = std::make_shared<MappingList>(std::move(mappings));
    ++incarnation;
  }
  image.shared_memory.push_back(std::move(object));
  return image;
}

}  // namespace

TEST_CASE("an object is covered once, by whoever maps a part of it") {
  SharedMemory none;
  const TreeImage image = image_of({{object_mapping(10, 14, 1), object_mapping(20, 22, 2)},
                                    {object_mapping(30, 36, 1, 2)},
                                    {object_mapping(50, 53, 1, 3), object_mapping(60, 61, 1, 9, PROT_READ)}},
                                   none);
  const std::vector<SharedPiece> pieces = cover_object(image, 1, PROT_NONE);
  REQUIRE(pieces.size() == 3);
  CHECK(pieces[0].range == pages(10, 14));
  CHECK(pieces[1].range == pages(32, 36));
  CHECK(pieces[1].offset == page(4));
  CHECK(pieces[2].range == pages(60, 61));
  CHECK(cover_object(image, 1, PROT_WRITE).size() == 2);
}

TEST_CASE("memory that all still have mapped is corrected there") {
  Tree tree;
  const MappingList mapped{object_mapping(10, 18, 1)};
  const TreeImage target = image_of({mapped, mapped}, tree.memory(1, {{1, tree.stored[0]}}));
  const TreeImage live = image_of({mapped, mapped}, tree.memory(1, {{1, tree.stored[1]}, {3, tree.stored[2]}}));
  const SharedMemoryPlan plan = plan_shared_memory(live, target, {});
  CHECK(plan.renew.empty());
  CHECK(plan.through_descriptor.empty());
}

TEST_CASE("memory is made anew when it is gone, unmapped without a descriptor, out of reach or sealed since") {
  Tree tree;
  const MappingList mapped{object_mapping(10, 18, 1)};
  const TreeImage target = image_of({mapped, mapped}, tree.memory(1, {{1, tree.stored[0]}}));
  const auto is_renewed = [&](const TreeImage& live, const TreeImage& wanted) {
    return plan_shared_memory(live, wanted, {}).renew.contains(1);
  };
  CHECK(is_renewed(image_of({{}, {}}, tree.memory(7, {})), target));
  TreeImage live = image_of({mapped, {}}, tree.memory(1, {{1, tree.stored[0]}}));
  CHECK(is_renewed(live, target));
  Description open;
  open.kind = DescriptionKind::kMemory;
  open.shared_object = 1;
  live.descriptions.push_back(open);
  live.processes.push_back(process(99, {990}));
  live.processes.back().descriptors.push_back({5, false, 0});
  CHECK(is_renewed(live, target));  // that process has ended by then
  live.processes[1].descriptors.push_back({5, false, 0});
  CHECK(!is_renewed(live, target));
  CHECK(plan_shared_memory(live, target, {}).through_descriptor.contains(1));
  live.shared_memory[0].seals = F_SEAL_GROW;
  CHECK(is_renewed(live, target));

  const MappingList readable{object_mapping(10, 18, 1, 0, PROT_READ)};
  const TreeImage read_only = image_of({readable}, tree.memory(1, {{1, tree.stored[0]}}));
  CHECK(!is_renewed(read_only, read_only));
  CHECK(is_renewed(image_of({readable}, tree.memory(1, {})), read_only));
}

TEST_CASE("what shares memory that is made anew is mapped and opened anew") {
  Tree tree;
  const MappingList mapped{object_mapping(10, 18, 1)};
  CHECK(plan_mappings(mapped, mapped, AddressRange{}, {}, {}).empty());
  CHECK(plan_mappings(mapped, mapped, AddressRange{}, {}, {1}).map.size() == 1);
  TreeImage image = image_of({mapped}, tree.memory(1, {}));
  Description memfd;
  memfd.kind = DescriptionKind::kMemory;
  memfd.type = "memfd";
  memfd.shared_object = 1;
  image.descriptions.push_back(memfd);
  image.processes[0].descriptors.push_back({5, false, 0});
  CHECK(plan_descriptors(image, image, {}, {}).make.empty());
  const DescriptorPlan plan = plan_descriptors(image, image, {}, {1});
  CHECK(plan.make.size() == 1);
  REQUIRE(plan.install.size() == 1);
  CHECK(plan.install[0].fd == 5);
}

}  // namespace deltabox::test
