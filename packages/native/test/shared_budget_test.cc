#include "budget/shared_budget.h"

#include <poll.h>
#include <unistd.h>

#include "expect.h"
#include "scratch_dir.h"

namespace deltabox::test {

namespace {

using Turn = SharedBudget::Turn;

std::unique_ptr<SharedBudget> join(const ScratchDir& dir) {
  return must(SharedBudget::join(dir.path() + "/hot-budget"));
}

// As packages/core/src/state/hot-budget.ts does.
void set_bound(const ScratchDir& dir, std::uint64_t bytes) {
  UniqueFd file = must(sys::open_at(AT_FDCWD, dir.path() + "/hot-budget", O_WRONLY));
  REQUIRE(::pwrite(file.get(), &bytes, sizeof bytes, 8) == sizeof bytes);
}

bool is_woken(const SharedBudget& budget) {
  pollfd one{budget.woken_fd(), POLLIN, 0};
  return ::poll(&one, 1, 0) == 1;
}

}  // namespace

TEST_CASE("without a bound it is nobody's turn") {
  const ScratchDir dir;
  const auto one = join(dir);
  one->tell(1'000'000, 5);
  CHECK(one->bound_bytes() == 0);
  CHECK(one->turn() == Turn::kNobodys);
}

TEST_CASE("beyond the bound it is the turn of whose checkpoint was used least recently") {
  const ScratchDir dir;
  const auto one = join(dir);
  const auto two = join(dir);
  set_bound(dir, 100);
  one->tell(60, 20);
  two->tell(40, 10);
  CHECK(one->turn() == Turn::kNobodys);
  one->tell(61, 20);
  CHECK(one->total_bytes() == 101);
  CHECK(one->turn() == Turn::kAnothers);
  CHECK(two->turn() == Turn::kOurs);
  two->tell(40, std::nullopt);  // all that it has is pinned, or lives
  CHECK(one->turn() == Turn::kOurs);
  one->tell(61, std::nullopt);
  CHECK(one->turn() == Turn::kNobodys);
}

TEST_CASE("who is asked wakes up and knows it, once") {
  const ScratchDir dir;
  const auto one = join(dir);
  const auto two = join(dir);
  set_bound(dir, 100);
  CHECK(two->acknowledge());  // the bound is another one
  CHECK_FALSE(is_woken(*two));
  two->tell(50, 10);
  one->tell(60, 20);
  one->ask_another();
  CHECK(is_woken(*two));
  CHECK(two->acknowledge());
  CHECK_FALSE(two->acknowledge());
  one->ask_another();
  one->ask_another();
  CHECK(two->acknowledge());
  (void)one->acknowledge();
  two->ask_another();  // it is its own turn
  CHECK_FALSE(is_woken(*one));
}

TEST_CASE("what an engine held that has ended does not count, and its place is another's") {
  const ScratchDir dir;
  const auto one = join(dir);
  auto two = join(dir);
  set_bound(dir, 100);
  one->tell(60, 20);
  two->tell(60, 10);
  CHECK(one->total_bytes() == 120);
  two.reset();
  CHECK(one->total_bytes() == 60);
  CHECK(one->turn() == Turn::kNobodys);
  const auto three = join(dir);
  three->tell(70, 30);
  CHECK(one->total_bytes() == 130);
  CHECK(one->turn() == Turn::kOurs);
}

TEST_CASE("a file that is no budget is named, and left as it is") {
  const ScratchDir dir;
  UniqueFd file = must(sys::open_at(AT_FDCWD, dir.path() + "/hot-budget", O_WRONLY | O_CREAT, 0600));
  REQUIRE(::write(file.get(), "something else", 14) == 14);
  const auto refused = SharedBudget::join(dir.path() + "/hot-budget");
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.error().code == Code::kDamaged);
  CHECK(must(sys::stat_fd(file.get())).st_size == 14);
}

}  // namespace deltabox::test
