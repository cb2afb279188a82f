#include "reconcile/plan_credentials.h"

#include <linux/capability.h>
#include <linux/securebits.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cstring>

#include "expect.h"
#include "images.h"
#include "reconcile/plan.h"
#include "reconcile/plan_one_way.h"

namespace deltabox::test {

namespace {

constexpr std::uint64_t kBuffer = 0x5000'0000;
constexpr std::uint64_t kAll = 0x3fff;

constexpr std::uint64_t bit(int capability) { return std::uint64_t{1} << capability; }

Rights root() {
  Rights rights;
  rights.credentials.bounding = kAll;
  rights.capabilities = {kAll, kAll, 0};
  return rights;
}

Rights user(std::uint32_t id) {
  Rights rights = root();
  for (std::uint32_t& one : rights.credentials.uids) one = id;
  rights.capabilities = {};
  return rights;
}

std::vector<std::uint64_t> numbers(const Rights& from, const Rights& to) {
  AttributeBatch batch(kBuffer);
  plan_credentials(from, to, batch);
  std::vector<std::uint64_t> found;
  for (const parasite::Call& call : batch.calls) found.push_back(call.number);
  return found;
}

ProcessImage process_of(const Rights& rights, Incarnation incarnation = 1, int parent = 1) {
  ProcessImage image = process(incarnation, {static_cast<int>(incarnation)});
  image.parent = InsidePid{parent};
  image.session = image.process_group = 1;
  image.credentials = rights.credentials;
  image.threads[0].capabilities = rights.capabilities;
  return image;
}

ProcessImage scheduled(std::uint32_t policy, std::int32_t nice) {
  ProcessImage image = process(1, {1});
  image.threads[0].attributes.scheduling.policy = policy;
  image.threads[0].attributes.scheduling.nice = nice;
  return image;
}

}  // namespace

TEST_CASE("rights that agree need no call") {
  CHECK(numbers(root(), root()).empty());
  CHECK(can_become(user(7), user(7)));
}

TEST_CASE("only who has a right may give itself another") {
  CHECK(can_become(root(), user(1000)));
  CHECK_FALSE(can_become(user(1000), root()));
  CHECK_FALSE(can_become(user(1000), user(1001)));
  Rights groups = user(1000);
  groups.credentials.groups = {5};
  CHECK_FALSE(can_become(user(1000), groups));
  CHECK(can_become(root(), groups));
  Rights back = user(1000);
  back.credentials.uids[2] = 0;
  Rights again = back;
  again.credentials.uids[1] = 0;
  CHECK(can_become(back, again));  // seteuid(2) to the saved one
}

TEST_CASE("capabilities only shrink") {
  Rights fewer = root();
  fewer.capabilities.permitted = fewer.capabilities.effective = bit(CAP_CHOWN);
  CHECK(can_become(root(), fewer));
  CHECK_FALSE(can_become(fewer, root()));
  Rights bounded = root();
  bounded.credentials.bounding &= ~bit(CAP_KILL);
  CHECK(can_become(root(), bounded));
  CHECK_FALSE(can_become(bounded, root()));
  Rights ineffective = root();
  ineffective.capabilities.effective = 0;
  CHECK(can_become(ineffective, root()));
  CHECK(numbers(ineffective, root()) == std::vector<std::uint64_t>{SYS_capset});
  Rights inheriting = fewer;
  inheriting.capabilities.inheritable = bit(CAP_KILL);
  CHECK_FALSE(can_become(fewer, inheriting));  // neither permitted nor CAP_SETPCAP
  CHECK(can_become(root(), inheriting));
}

TEST_CASE("locked securebits stay") {
  Rights locked = root();
  locked.credentials.securebits = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED;
  CHECK(can_become(root(), locked));
  CHECK_FALSE(can_become(locked, root()));
  Rights keeping = user(1000);
  keeping.credentials.securebits = SECBIT_KEEP_CAPS;
  CHECK(can_become(user(1000), keeping));  // takes no right
  Rights silent = root();
  silent.credentials.securebits = SECBIT_NO_CAP_AMBIENT_RAISE;
  Rights ambient = silent;
  ambient.credentials.ambient = ambient.capabilities.inheritable = bit(CAP_KILL);
  CHECK_FALSE(can_become(silent, ambient));
}

TEST_CASE("capabilities are kept while users change, and dropped at last") {
  Rights target = user(1000);
  target.credentials.groups = {3, 9};
  target.credentials.bounding &= ~bit(CAP_KILL);
  target.credentials.ambient = target.capabilities.inheritable = bit(CAP_CHOWN);
  target.capabilities.permitted = target.capabilities.effective = bit(CAP_CHOWN);
  AttributeBatch batch(kBuffer);
  plan_credentials(root(), target, batch);
  const auto place = [&](std::uint64_t number, std::uint64_t argument) {
    const auto found = std::find_if(batch.calls.begin(), batch.calls.end(), [&](const parasite::Call& call) {
      return call.number == number && (number != SYS_prctl || call.arguments[0] == argument);
    });
    REQUIRE(found != batch.calls.end());
    return found - batch.calls.begin();
  };
  CHECK(place(SYS_setgroups, 0) < place(SYS_setresuid, 0));
  CHECK(place(SYS_prctl, PR_CAPBSET_DROP) < place(SYS_setresuid, 0));
  CHECK(place(SYS_prctl, PR_SET_KEEPCAPS) < place(SYS_setresuid, 0));
  CHECK(place(SYS_setresuid, 0) < place(SYS_prctl, PR_CAP_AMBIENT));
  REQUIRE(batch.calls.back().number == SYS_capset);
  std::uint32_t data[6];
  std::memcpy(data, batch.buffer.data() + (batch.calls.back().arguments[1] - kBuffer), sizeof data);
  CHECK(data[0] == bit(CAP_CHOWN));
  CHECK(data[1] == bit(CAP_CHOWN));
  CHECK(data[2] == bit(CAP_CHOWN));
  std::uint32_t groups[2];
  const parasite::Call& set = batch.calls[static_cast<std::size_t>(place(SYS_setgroups, 0))];
  CHECK(set.arguments[0] == 2);
  std::memcpy(groups, batch.buffer.data() + (set.arguments[1] - kBuffer), sizeof groups);
  CHECK(groups[1] == 9);
}

TEST_CASE("what an exec leaves") {
  Rights dropped = root();
  dropped.capabilities.effective = 0;
  CHECK(after_exec(dropped).capabilities.effective == kAll);
  Rights kept = user(1000);
  kept.capabilities = {kAll, kAll, bit(CAP_CHOWN)};
  kept.credentials.ambient = bit(CAP_CHOWN);
  kept.credentials.securebits = SECBIT_KEEP_CAPS;
  CHECK(after_exec(kept).capabilities.permitted == bit(CAP_CHOWN));
  CHECK(after_exec(kept).credentials.securebits == 0);
  Rights fewer = root();
  fewer.capabilities.permitted = bit(CAP_KILL);
  CHECK(after_exec(fewer).capabilities.permitted == bit(CAP_KILL));  // no_new_privs
}

TEST_CASE("priorities only fall, but for what limits allow") {
  CHECK(can_be_what_it_was(scheduled(SCHED_OTHER, 0), scheduled(SCHED_BATCH, 4)));
  CHECK_FALSE(can_be_what_it_was(scheduled(SCHED_OTHER, 4), scheduled(SCHED_OTHER, 0)));
  CHECK_FALSE(can_be_what_it_was(scheduled(SCHED_IDLE, 0), scheduled(SCHED_OTHER, 0)));
  CHECK(can_be_what_it_was(scheduled(SCHED_FIFO, 0), scheduled(SCHED_OTHER, 0)));
  ProcessImage real_time = scheduled(SCHED_FIFO, 0);
  real_time.threads[0].attributes.scheduling.priority = 3;
  ProcessImage ordinary = scheduled(SCHED_OTHER, 0);
  CHECK_FALSE(can_be_what_it_was(ordinary, real_time));
  ordinary.limits[RLIMIT_RTPRIO].rlim_cur = 3;
  CHECK(can_be_what_it_was(ordinary, real_time));
  ProcessImage limited = scheduled(SCHED_OTHER, 4);
  limited.limits[RLIMIT_NICE].rlim_cur = 20;
  CHECK(can_be_what_it_was(limited, scheduled(SCHED_OTHER, 0)));
  ProcessImage resetting = scheduled(SCHED_OTHER, 0);
  resetting.threads[0].attributes.scheduling.flags = 1;
  CHECK_FALSE(can_be_what_it_was(resetting, scheduled(SCHED_OTHER, 0)));
}

TEST_CASE("a process that denies itself executable memory can't go back, nor make others") {
  const ProcessImage before = process_of(root(), 11);
  ProcessImage denying = before;
  denying.attributes.deny_write_execute = 1;
  CHECK(can_be_what_it_was(before, denying));
  CHECK(can_be_what_it_was(denying, denying));
  CHECK_FALSE(can_be_what_it_was(denying, before));
  CHECK_FALSE(can_be_child_of(denying, before));
  ProcessImage executed = denying;
  executed.address_space = 7;
  CHECK_FALSE(can_be_what_it_was(executed, denying));
  denying.attributes.deny_write_execute = 3;  // for itself alone
  CHECK(can_be_child_of(denying, before));
}

TEST_CASE("a thread that is gone is made from the main one") {
  ProcessImage target = scheduled(SCHED_OTHER, 5);
  target.threads.push_back(target.threads.front());
  target.threads.back().inside = InsidePid{9};
  target.threads.back().attributes.scheduling.nice = 0;
  CHECK(can_be_what_it_was(target, target));
  ProcessImage live = target;
  live.threads.pop_back();
  CHECK_FALSE(can_be_what_it_was(live, target));
}

TEST_CASE("who dropped rights is made again, and with a dead child its parent that dropped them before") {
  TreeImage target;
  target.processes = {process_of(user(1000), 11, 1), process_of(root(), 12, 11), process_of(user(1000), 13, 11)};
  TreeImage live = target;
  CHECK(processes_to_make(live, target).empty());
  live.processes.erase(live.processes.begin() + 2);
  CHECK(processes_to_make(live, target) == std::set<Incarnation>{13});
  live.processes.pop_back();
  CHECK(processes_to_make(live, target) == std::set<Incarnation>{11, 12, 13});
  live = target;
  live.processes[1] = process_of(user(1000), 12, 11);
  CHECK(processes_to_make(live, target) == std::set<Incarnation>{11, 12, 13});
}

}  // namespace deltabox::test
