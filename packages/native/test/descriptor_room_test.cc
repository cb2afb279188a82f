#include "reconcile/descriptor_room.h"

#include "expect.h"
#include "images.h"

namespace deltabox::test {

namespace {

// A process that has `open` slots open, the first `moving` of them on volume 0, the others on none.
TreeImage with_slots(int open, int moving, rlim_t hard) {
  TreeImage image;
  image.descriptions = {file("/workspace/file", 1), file("/file", 2)};
  image.descriptions[0].volume = 0;
  image.descriptions[1].volume = -1;
  ProcessImage only = process(1, {1});
  only.limits[RLIMIT_NOFILE] = {hard, hard};
  for (int fd = 0; fd < open; ++fd) only.descriptors.push_back({fd, false, fd < moving ? 0u : 1u});
  image.processes.push_back(std::move(only));
  return image;
}

}  // namespace

TEST_CASE("a full table is refused where a descriptor has to move") {
  CHECK(check_descriptor_room(with_slots(60, 1, 64), {0}).ok());
  CHECK_FALSE(check_descriptor_room(with_slots(61, 1, 64), {0}).ok());
  CHECK(check_descriptor_room(with_slots(64, 0, 64), {0}).ok());
  CHECK(check_descriptor_room(with_slots(64, 64, 64), {1}).ok());
  // What a program opened before it lowered its limit takes no number below it.
  CHECK(check_descriptor_room(with_slots(64, 1, 32), {0}).ok() == false);
  TreeImage above = with_slots(64, 1, 32);
  for (DescriptorSlot& slot : above.processes[0].descriptors) slot.fd += 100;
  CHECK(check_descriptor_room(above, {0}).ok());
  // Sixteen at most are on their way at once.
  CHECK(check_descriptor_room(with_slots(45, 45, 64), {0}).ok());
  CHECK_FALSE(check_descriptor_room(with_slots(46, 46, 64), {0}).ok());
}

}  // namespace deltabox::test
