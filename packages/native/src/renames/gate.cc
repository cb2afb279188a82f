#include "renames/gate.h"

#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#include <ctime>
#include <utility>

#include "base/clock.h"

namespace deltabox::renames {

namespace {

constexpr std::uint32_t kClosed = 1u << 31;
static_assert(Gate::kSlots < 31);

constexpr std::uint32_t bit(std::size_t slot) { return 1u << slot; }

static_assert(sizeof(std::atomic<std::uint32_t>) == sizeof(std::uint32_t));

// Not FUTEX_PRIVATE_FLAG: both sides are processes.
void wait_while(std::atomic<std::uint32_t>& word, std::uint32_t value, const timespec* timeout) {
  (void)::syscall(SYS_futex, &word, FUTEX_WAIT, value, timeout, nullptr, 0);
}

void wake(std::atomic<std::uint32_t>& word) {
  (void)::syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

}  // namespace

Result<Gate> Gate::create() {
  void* memory = ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return os_error("mmap", "renames");
  return Gate(new (memory) Shared{});
}

Gate::Gate(Gate&& other) noexcept : shared_(std::exchange(other.shared_, nullptr)) {}

Gate& Gate::operator=(Gate&& other) noexcept {
  std::swap(shared_, other.shared_);
  return *this;
}

Gate::~Gate() {
  if (shared_ != nullptr) ::munmap(shared_, sizeof(Shared));
}

bool Gate::close(std::uint64_t timeout_ms) {
  const std::uint64_t deadline_ns = monotonic_ns() + timeout_ms * 1'000'000;
  std::uint32_t seen = shared_->word.fetch_or(kClosed) | kClosed;
  while (seen != kClosed) {
    const std::uint64_t now_ns = monotonic_ns();
    if (now_ns >= deadline_ns) {
      open();
      return false;
    }
    const std::uint64_t left_ns = deadline_ns - now_ns;
    const timespec timeout{static_cast<time_t>(left_ns / 1'000'000'000), static_cast<long>(left_ns % 1'000'000'000)};
    wait_while(shared_->word, seen, &timeout);
    seen = shared_->word.load();
  }
  return true;
}

void Gate::open() {
  shared_->word.fetch_and(~kClosed);
  wake(shared_->word);
}

std::vector<std::uint64_t> Gate::abandoned() {
  std::vector<std::uint64_t> ids;
  for (std::size_t slot = 0; slot < kSlots; ++slot) {
    if (is_used(slot)) ids.push_back(id(slot));
    leave(slot);
  }
  return ids;
}

void Gate::enter(std::size_t slot) {
  std::uint32_t seen = shared_->word.load();
  for (;;) {
    if ((seen & kClosed) != 0) {
      wait_while(shared_->word, seen, nullptr);
      seen = shared_->word.load();
    } else if (shared_->word.compare_exchange_weak(seen, seen | bit(slot))) {
      return;
    }
  }
}

void Gate::set_id(std::size_t slot, std::uint64_t id) { shared_->ids[slot].store(id); }

void Gate::move(std::size_t from, std::size_t to) {
  shared_->ids[to].store(shared_->ids[from]);
  shared_->word.fetch_or(bit(to));
  leave(from);
}

void Gate::leave(std::size_t slot) {
  const std::uint32_t before = shared_->word.fetch_and(~bit(slot));
  if ((before & kClosed) != 0) wake(shared_->word);
}

std::uint64_t Gate::id(std::size_t slot) const { return shared_->ids[slot].load(); }

bool Gate::is_used(std::size_t slot) const { return (shared_->word.load() & bit(slot)) != 0; }

}  // namespace deltabox::renames
