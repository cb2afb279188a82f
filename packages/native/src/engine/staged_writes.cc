#include "engine/staged_writes.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "engine/sandbox_files.h"
#include "sys/files.h"

namespace deltabox {

namespace {

constexpr std::size_t kMaxWrites = 256;
constexpr std::size_t kMaxRemembered = 1024;
constexpr std::int64_t kMaxPieceBytes = 64 << 20;  // copied in some 50 ms: others wait that long

}  // namespace

Result<std::uint64_t> StagedWrites::begin(ClientId client, const std::string& path, bool make_parents) {
  if (writes_.size() >= kMaxWrites) {
    return make_error(Code::kTooLarge, "256 files are being written in pieces", "Finish some of them first.");
  }
  const NamedEntry entry = TRY(open_parent_inside(m1_root_, path, make_parents));
  TRY(check_replaceable(entry));
  Write write{client, path, temporary_name(), 0, false};
  TRY(sys::open_at(entry.parent.get(), write.temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
  writes_[next_] = std::move(write);
  return next_++;
}

Result<StagedWrites::Writes::iterator> StagedWrites::find(ClientId client, std::uint64_t id) {
  const auto found = writes_.find(id);
  if (found == writes_.end() || found->second.client != client) {
    return make_error(Code::kInvalidArgument, "no file is being written under this id", "Begin the file anew.");
  }
  if (!found->second.is_stale) return found;
  writes_.erase(found);
  return make_error(Code::kStaleGeneration, "a rollback came while the file was being written",
                    "Write it anew if it is still wanted.");
}

Result<void> StagedWrites::append(ClientId client, std::uint64_t id, int contents_fd) {
  Write& write = TRY(find(client, id))->second;
  const struct stat piece = TRY(sys::stat_fd(contents_fd));
  if (piece.st_size > kMaxPieceBytes) {
    return make_error(Code::kTooLarge, "a piece of a file is larger than 64 MiB", "Send smaller pieces.");
  }
  const NamedEntry entry = TRY(open_parent_inside(m1_root_, write.path, false));
  UniqueFd file = TRY(sys::open_at(entry.parent.get(), write.temporary, O_WRONLY | O_NOFOLLOW | O_NONBLOCK));
  const struct stat before = TRY(sys::stat_fd(file.get()));
  if (!S_ISREG(before.st_mode) || static_cast<std::uint64_t>(before.st_size) != write.size_bytes) {
    return make_error(Code::kBusy, "something in the sandbox changed the file while it was being written",
                      "Write it anew.");
  }
  if (::lseek(file.get(), before.st_size, SEEK_SET) < 0) return os_error("lseek", printable(write.path));
  TRY(append_contents(contents_fd, file.get()));
  write.size_bytes += static_cast<std::uint64_t>(piece.st_size);
  return {};
}

Result<void> StagedWrites::finish(ClientId client, std::uint64_t id, std::uint32_t mode) {
  const auto found = TRY(find(client, id));
  const Write write = std::move(found->second);
  writes_.erase(found);
  const auto put = [&]() -> Result<void> {
    const NamedEntry entry = TRY(open_parent_inside(m1_root_, write.path, false));
    UniqueFd file = TRY(sys::open_at(entry.parent.get(), write.temporary, O_WRONLY | O_NOFOLLOW | O_NONBLOCK));
    return put_in_place(entry, write.temporary, file.get(), mode);
  };
  Result<void> outcome = put();
  if (!outcome.ok()) remove(write);
  return outcome;
}

Result<void> StagedWrites::discard(ClientId client, std::uint64_t id) {
  const auto found = TRY(find(client, id));
  remove(found->second);
  writes_.erase(found);
  return {};
}

void StagedWrites::client_left(ClientId client) {
  for (auto write = writes_.begin(); write != writes_.end();) {
    if (write->second.client != client) {
      ++write;
      continue;
    }
    if (!write->second.is_stale) remove(write->second);
    write = writes_.erase(write);
  }
}

void StagedWrites::checkpoint_taken() {
  for (const auto& [id, write] : writes_) {
    in_checkpoints_.push_back(write);
    if (in_checkpoints_.size() > kMaxRemembered) in_checkpoints_.pop_front();
  }
}

void StagedWrites::rolled_back() {
  checkpoint_taken();  // the rollback's own safety checkpoint
  for (const Write& write : in_checkpoints_) remove(write);
  for (auto& [id, write] : writes_) write.is_stale = true;
}

void StagedWrites::remove(const Write& write) const {
  const Result<NamedEntry> entry = open_parent_inside(m1_root_, write.path, false);
  if (entry.ok()) ::unlinkat(entry.value().parent.get(), write.temporary.c_str(), 0);
}

}  // namespace deltabox
