#include <sys/prctl.h>
#include <sys/syscall.h>

#include <cstring>

#include "expect.h"
#include "images.h"
#include "reconcile/plan_attributes.h"

namespace deltabox::test {

namespace {

constexpr std::uint64_t kBuffer = 0x5000'0000;

AttributeBatch planned(const ProcessImage& live, const ProcessImage& target) {
  AttributeBatch batch(kBuffer);
  plan_thread_attributes(live.threads.front(), target.threads.front(), batch);
  plan_process_attributes(live, target, batch);
  plan_thread_rights(live, live.threads.front(), target, target.threads.front(), batch);
  return batch;
}

template <typename Data>
Data data_at(const AttributeBatch& batch, std::uint64_t address) {
  Data data;
  REQUIRE(address >= kBuffer);
  REQUIRE(address - kBuffer + sizeof data <= batch.buffer.size());
  std::memcpy(&data, batch.buffer.data() + (address - kBuffer), sizeof data);
  return data;
}

}  // namespace

TEST_CASE("attributes that agree need no call") {
  ProcessImage image = process(1, {10});
  image.threads[0].attributes.timer_slack_ns = 50'000;
  image.attributes.oom_score_adjustment = 3;
  CHECK(planned(image, image).empty());
}

TEST_CASE("each attribute that differs is one call, with its data in the buffer") {
  const ProcessImage live = process(1, {10});
  ProcessImage target = live;
  ThreadAttributes& thread = target.threads[0].attributes;
  thread.scheduling.policy = 3;
  thread.scheduling.nice = 4;
  thread.cpus[1] = 5;
  thread.io_priority = 2 << 13;
  thread.timer_slack_ns = 70'000;
  thread.parent_death_signal = 15;
  thread.personality = 0x40000;
  target.attributes = {0, 1, 3, 0};
  const AttributeBatch batch = planned(live, target);
  REQUIRE(batch.calls.size() == 9);
  REQUIRE(batch.kinds.size() == 9);
  CHECK(batch.calls[0].number == SYS_sched_setattr);
  CHECK(data_at<KernelScheduling>(batch, batch.calls[0].arguments[1]) == thread.scheduling);
  CHECK(batch.calls[1].number == SYS_sched_setaffinity);
  CHECK(batch.calls[1].arguments[1] == sizeof(CpuMask));
  CHECK(data_at<CpuMask>(batch, batch.calls[1].arguments[2]) == thread.cpus);
  CHECK(batch.calls[2].arguments[2] == 2 << 13);
  CHECK(batch.calls[3].arguments[1] == 70'000);
  CHECK(batch.calls[4].arguments[0] == 0x40000);
  CHECK(batch.calls[5].arguments[0] == PR_SET_CHILD_SUBREAPER);
  CHECK(batch.calls[6].arguments[0] == PR_SET_THP_DISABLE);
  CHECK(batch.calls[6].arguments[1] == 1);
  CHECK(batch.calls[6].arguments[2] == 2);  // the flag beside it
  CHECK(batch.calls[7].arguments[0] == PR_SET_PDEATHSIG);
  CHECK(batch.calls[7].arguments[1] == 15);
  CHECK(batch.calls[8].arguments[0] == PR_SET_DUMPABLE);
}

TEST_CASE("a mask of processors that could not be read is not set") {
  ProcessImage live = process(1, {10});
  live.threads[0].attributes.cpus[0] = 3;
  CHECK(planned(live, process(1, {10})).empty());
}

}  // namespace deltabox::test
