#include "reconcile/shared_memory_io.h"

#include <fcntl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "deltacr/descriptors.h"
#include "deltacr/shared_memory.h"
#include "reconcile/remote_calls.h"
#include "sys/processes.h"

namespace deltabox {

namespace {

using parasite::Call;
using parasite::make_call;

constexpr unsigned kMfdExec = 0x10;  // MFD_EXEC, 6.3
alignas(kPageSize) const std::byte kZeros[kPageSize] = {};

// "/memfd:name (deleted)" → name
std::string memfd_name(const std::string& shown) {
  constexpr std::string_view kPrefix = "/memfd:";
  constexpr std::string_view kDeleted = " (deleted)";
  if (!shown.starts_with(kPrefix)) return "shared";
  std::string name = shown.substr(kPrefix.size());
  if (name.ends_with(kDeleted)) name.resize(name.size() - kDeleted.size());
  return name;
}

Result<UniqueFd> make_memory(const SharedMemory& wanted) {
  const std::string name = memfd_name(wanted.name);
  UniqueFd file(::memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING | kMfdExec));
  if (!file.valid() && errno == EINVAL) {
    file = UniqueFd(::memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING));
  }
  if (!file.valid()) return os_error("memfd_create", name);
  if (::fchmod(file.get(), wanted.mode) != 0) return os_error("fchmod", name);
  return file;
}

// Turns what the object holds (`from`) into what the target wants, through a descriptor.
Result<std::uint64_t> write_difference(int file, const PageMap& from, const SharedMemory& wanted,
                                       const PageStore& store) {
  if (::ftruncate(file, static_cast<off_t>(wanted.size_bytes)) != 0) return os_error("ftruncate", "shared memory");
  Result<void> outcome;
  std::uint64_t written = 0;
  const auto write = [&](PageNumber page, std::optional<PageId>, std::optional<PageId> contents) {
    if (!outcome.ok()) return;
    const auto offset = static_cast<off_t>(page << kPageShift);
    if (!contents) {
      // Beyond the end there is nothing to punch, and nothing wrong with it.
      if (::fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, kPageSize) != 0) {
        outcome = os_error("fallocate", "shared memory");
      }
      return;
    }
    ++written;
    // What is written beyond the end would make it longer.
    const std::size_t count = std::min<std::uint64_t>(kPageSize, wanted.size_bytes - (page << kPageShift));
    if (::pwrite(file, store.bytes(*contents), count, offset) != static_cast<ssize_t>(count)) {
      outcome = os_error("pwrite", "shared memory");
    }
  };
  PageMap::for_each_difference(from, wanted.pages, write);
  TRY(std::move(outcome));
  return written;
}

// A descriptor for reading and writing of an object that a task has open.
Result<UniqueFd> open_live(const ApplyContext& context, const TreeImage& live, SharedObjectId id) {
  for (const ProcessImage& process : live.processes) {
    const HeldProcess* held = context.capture->find(process.incarnation);
    if (held == nullptr) continue;
    for (const DescriptorSlot& slot : process.descriptors) {
      if (live.descriptions[slot.description].shared_object != id) continue;
      const UniqueFd duplicate = TRY(sys::pidfd_get_fd(held->live->pidfd.get(), slot.fd));
      return reopen(context.self_fd_dir, duplicate.get(), O_RDWR);
    }
  }
  return make_error(Code::kInternal, "nobody has this shared memory open");
}

std::uint64_t address_in(const std::vector<SharedPiece>& pieces, std::uint64_t offset, const SharedPiece** found) {
  for (const SharedPiece& piece : pieces) {
    if (offset < piece.offset || offset - piece.offset >= piece.range.size_bytes()) continue;
    *found = &piece;
    return piece.range.start + (offset - piece.offset);
  }
  return 0;
}

// Through the mappings of the target, one page at a time: what differs is little.
Result<std::uint64_t> correct_through_mappings(ApplyContext& context, const SharedMemory* present,
                                               const SharedMemory& wanted, const TreeImage& target) {
  const std::vector<SharedPiece> pieces = cover_object(target, wanted.id, PROT_WRITE);
  std::uint64_t written = 0;
  Result<void> outcome;
  const auto put = [&](PageNumber page, std::optional<PageId> contents) {
    if (!outcome.ok()) return;
    const SharedPiece* piece = nullptr;
    const std::uint64_t address = address_in(pieces, page << kPageShift, &piece);
    HeldProcess* held = piece != nullptr ? context.capture->find(piece->process) : nullptr;
    if (held == nullptr) {
      outcome = make_error(Code::kUnsupported, "no process of the checkpoint may write all of it");
      return;
    }
    if (!contents) {
      parasite::Call drop = parasite::make_call(SYS_madvise, address, kPageSize, MADV_REMOVE);
      outcome = held->session.run(held->live->site, {&drop, 1});
      if (!outcome.ok() || drop.result == 0) return;
    }
    ++written;
    outcome = sys::write_remote(held->live->pid, RemoteAddress{address},
                                contents ? context.store->bytes(*contents) : kZeros, kPageSize);
  };
  if (present != nullptr) {
    PageMap::for_each_difference(
        present->pages, wanted.pages,
        [&](PageNumber page, std::optional<PageId>, std::optional<PageId> contents) { put(page, contents); });
  } else {
    // It lived on with nobody attached, and holds anything.
    for (PageNumber page = 0; page < (wanted.size_bytes + kPageSize - 1) >> kPageShift; ++page) {
      put(page, wanted.pages.find(page));
    }
  }
  TRY(std::move(outcome));
  return written;
}

// Who of the target attaches it, its owner before others: whoever makes it owns it.
HeldProcess* find_maker(ApplyContext& context, const SharedMemory& wanted, const TreeImage& target) {
  HeldProcess* found = nullptr;
  for (const ProcessImage& process : target.processes) {
    const bool attaches = std::any_of(process.mappings->begin(), process.mappings->end(),
                                      [&](const Mapping& mapping) { return mapping.shared_object == wanted.id; });
    if (!attaches) continue;
    const bool owns = process.credentials.uids[1] == wanted.uid;
    if (found == nullptr || owns) found = context.capture->find(process.incarnation);
    if (owns) break;
  }
  return found;
}

// It goes with the last one that is attached.
Result<void> remove_segment(ApplyContext& context, const SharedMemory& wanted, const TreeImage& target) {
  HeldProcess* maker = find_maker(context, wanted, target);
  if (maker == nullptr) return {};
  Call remove = make_call(SYS_shmctl, static_cast<std::uint64_t>(wanted.segment), IPC_RMID, 0);
  return maker->session.run(maker->live->site, {&remove, 1});
}

// A segment that is gone, or was never there: a fork begins with an empty IPC namespace.
Result<void> make_segment_if_gone(ApplyContext& context, const SharedMemory& wanted, const TreeImage& live,
                                  const TreeImage& target) {
  HeldProcess* maker = find_maker(context, wanted, target);
  if (maker == nullptr || wanted.segment < 0) return {};
  const auto run = [&](Call call) -> Result<std::int64_t> {
    TRY(maker->session.run(maker->live->site, {&call, 1}));
    return call.result;
  };
  const auto id = static_cast<std::uint64_t>(wanted.segment);
  if (TRY(run(make_call(SYS_shmctl, id, IPC_STAT, buffer_at(*maker, 0)))) >= 0) return {};
  for (const SharedMemory& other : live.shared_memory) {
    // Made since under the same key. Whoever has it attached is about to lose it.
    const bool is_newer = other.system_v && other.segment >= 0 && target.find_shared(other.id) == nullptr;
    if (!is_newer || other.key == IPC_PRIVATE || other.key != wanted.key) continue;
    (void)TRY(run(make_call(SYS_shmctl, static_cast<std::uint64_t>(other.segment), IPC_RMID, 0)));
  }
  TRY(context.choose_next_segment(wanted.segment));
  const std::int64_t made = TRY(run(make_call(SYS_shmget, static_cast<std::uint32_t>(wanted.key), wanted.size_bytes,
                                              IPC_CREAT | IPC_EXCL | wanted.mode)));
  if (made < 0) return os_error_from(static_cast<int>(-made), "shmget", wanted.name);
  if (made == wanted.segment) return {};
  (void)TRY(run(make_call(SYS_shmctl, static_cast<std::uint64_t>(made), IPC_RMID, 0)));
  return make_error(Code::kUnsupported, "another segment has its id");
}

}  // namespace

Result<void> prepare_shared_memory(ApplyContext& context, const SharedMemoryPlan& plan, const TreeImage& live,
                                   const TreeImage& target, RevivedFiles& revived, ApplyOutcome& outcome) {
  for (const SharedMemory& wanted : target.shared_memory) {
    if (plan.renew.contains(wanted.id)) {
      UniqueFd file = TRY(make_memory(wanted));
      TRY(write_difference(file.get(), PageMap(), wanted, *context.store));
      revived.give_memory(wanted.id, std::move(file));
    } else if (plan.through_descriptor.contains(wanted.id)) {
      UniqueFd file = TRY(open_live(context, live, wanted.id));
      outcome.written_pages +=
          TRY(write_difference(file.get(), live.find_shared(wanted.id)->pages, wanted, *context.store));
      TRY(context.shared_memory->adopt(wanted, -1));
      revived.give_memory(wanted.id, std::move(file));
    } else if (wanted.system_v) {
      const Result<void> there = make_segment_if_gone(context, wanted, live, target);
      if (!there.ok()) {
        outcome.not_restored.push_back({0, "shared-memory", wanted.name + ": " + there.error().describe()});
      }
    }
  }
  return {};
}

Result<void> finish_shared_memory(ApplyContext& context, const SharedMemoryPlan& plan, const TreeImage& live,
                                  const TreeImage& target, RevivedFiles& revived, ApplyOutcome& outcome) {
  for (const SharedMemory& wanted : target.shared_memory) {
    if (plan.renew.contains(wanted.id)) {
      const int file = revived.memory(wanted.id);
      if (wanted.seals != 0 && ::fcntl(file, F_ADD_SEALS, wanted.seals) != 0) {
        outcome.not_restored.push_back({0, "memfd", wanted.name + ": its seals"});
      }
      TRY(context.shared_memory->adopt(wanted, file));
      outcome.written_pages += wanted.pages.size();
    } else if (!plan.through_descriptor.contains(wanted.id)) {
      Result<std::uint64_t> written = correct_through_mappings(context, live.find_shared(wanted.id), wanted, target);
      if (written.ok()) {
        outcome.written_pages += written.value();
        TRY(context.shared_memory->adopt(wanted, -1));
        if (wanted.is_removed) TRY(remove_segment(context, wanted, target));
      } else {
        outcome.not_restored.push_back({0, "shared-memory", wanted.name + ": " + written.error().describe()});
      }
    }
  }
  return {};
}

}  // namespace deltabox
