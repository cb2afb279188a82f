#include "checkpoint/records.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "base/fault.h"
#include "sys/files.h"

namespace deltabox {

namespace {

constexpr std::size_t kMaxRecordBytes = 64u << 20;
constexpr const char* kState = "state";
constexpr const char* kStateCopy = "state.synced";
constexpr const char* kCheckpoints = "checkpoints";
constexpr std::string_view kDurable = ".durable";
constexpr std::string_view kPinned = ".pinned";

}  // namespace

std::uint64_t number_of(const std::string& id) {
  const std::size_t dash = id.rfind('-');
  return dash == std::string::npos ? 0 : std::strtoull(id.c_str() + dash + 1, nullptr, 10);
}

Result<RecordStore> RecordStore::open(int store_fd) {
  RecordStore store;
  store.root_ = TRY(sys::duplicate(store_fd));
  const Result<void> made = sys::make_dir_at(store_fd, kCheckpoints, 0700);
  if (!made.ok() && made.error().os_errno != EEXIST) return made.error();
  return store;
}

Result<void> RecordStore::write(const std::string& path, const std::string& payload) const {
  const std::string temporary = path + ".new";
  Result<void> written = sys::write_file_at(root_.get(), temporary, pack_record(payload));
  if (!written.ok()) {
    ::unlinkat(root_.get(), temporary.c_str(), 0);
    return written;
  }
  fault_point(FaultPoint::kRecordBeside);
  if (::renameat(root_.get(), temporary.c_str(), root_.get(), path.c_str()) != 0) return os_error("renameat", path);
  return {};
}

Result<void> RecordStore::write_state(const records::State& state) const {
  return write(kState, state.SerializeAsString());
}

Result<records::State> RecordStore::read_state() const { return read_state_from(kState); }

Result<records::State> RecordStore::read_state_copy() const { return read_state_from(kStateCopy); }

Result<void> RecordStore::keep_state_copy() const {
  const std::string temporary = std::string(kStateCopy) + ".new";
  ::unlinkat(root_.get(), temporary.c_str(), 0);
  // A link: the record's file is replaced as a whole, never written again.
  if (::linkat(root_.get(), kState, root_.get(), temporary.c_str(), 0) != 0) return os_error("linkat", temporary);
  if (::renameat(root_.get(), temporary.c_str(), root_.get(), kStateCopy) != 0) return os_error("renameat", kStateCopy);
  // Where both were links of one file already, renaming does nothing.
  ::unlinkat(root_.get(), temporary.c_str(), 0);
  return {};
}

Result<records::State> RecordStore::read_state_from(const std::string& path) const {
  records::State state;
  const std::string name = "store/" + path;
  Result<std::string> file = sys::read_file_at(root_.get(), path, kMaxRecordBytes);
  if (!file.ok()) return damaged_record(name, file.error().describe());
  if (!state.ParseFromString(TRY(unpack_record(file.value(), name)))) return damaged_record(name, "it can't be parsed");
  return state;
}

Result<void> RecordStore::write_checkpoint(const records::Checkpoint& checkpoint) const {
  return write(std::string(kCheckpoints) + "/" + checkpoint.id(), checkpoint.SerializeAsString());
}

void RecordStore::remove_checkpoint(const std::string& id) const {
  const std::string path = std::string(kCheckpoints) + "/" + id;
  // The mark first: one without its record would make the next checkpoint of this id look durable.
  ::unlinkat(root_.get(), (path + std::string(kDurable)).c_str(), 0);
  ::unlinkat(root_.get(), (path + std::string(kPinned)).c_str(), 0);
  fault_point(FaultPoint::kMarkRemoved);
  ::unlinkat(root_.get(), path.c_str(), 0);
}

Result<RecordStore::Found> RecordStore::read_checkpoints() const {
  Found found;
  UniqueFd dir = TRY(sys::open_at(root_.get(), kCheckpoints, O_RDONLY | O_DIRECTORY));
  for (const std::string& name : TRY(sys::list_dir(dir.get()))) {
    if (name.ends_with(kDurable)) {
      found.durable.insert(name.substr(0, name.size() - kDurable.size()));
      continue;
    }
    if (name.ends_with(kPinned)) {
      found.pinned.insert(name.substr(0, name.size() - kPinned.size()));
      continue;
    }
    if (name.ends_with(".new")) {
      ::unlinkat(dir.get(), name.c_str(), 0);
      continue;
    }
    const auto read = [&]() -> Result<records::Checkpoint> {
      records::Checkpoint checkpoint;
      const std::string file = TRY(sys::read_file_at(dir.get(), name, kMaxRecordBytes));
      if (!checkpoint.ParseFromString(TRY(unpack_record(file, "the record of " + name))) || checkpoint.id() != name) {
        return damaged_record("the record of " + name, "it can't be parsed");
      }
      return checkpoint;
    };
    Result<records::Checkpoint> checkpoint = read();
    if (checkpoint.ok()) {
      found.checkpoints.push_back(checkpoint.release_value());
    } else {
      found.damaged.push_back({0, name, checkpoint.error().describe()});
    }
  }
  // Marks without a record must not count for the next checkpoint of that id.
  for (const auto& [marked, suffix] : {std::pair(&found.durable, kDurable), std::pair(&found.pinned, kPinned)}) {
    std::erase_if(*marked, [&, &suffix = suffix](const std::string& id) {
      if (::faccessat(dir.get(), id.c_str(), F_OK, 0) == 0) return false;
      ::unlinkat(dir.get(), (id + std::string(suffix)).c_str(), 0);
      return true;
    });
  }
  std::sort(found.checkpoints.begin(), found.checkpoints.end(),
            [](const auto& a, const auto& b) { return number_of(a.id()) < number_of(b.id()); });
  return found;
}

Result<void> RecordStore::mark_pinned(const std::string& id, bool pinned) const {
  const std::string path = std::string(kCheckpoints) + "/" + id + std::string(kPinned);
  if (pinned) {
    TRY(sys::open_at(root_.get(), path, O_WRONLY | O_CREAT | O_NOFOLLOW, 0600));
  } else if (::unlinkat(root_.get(), path.c_str(), 0) != 0 && errno != ENOENT) {
    return os_error("unlinkat", path);
  }
  return {};
}

Result<void> RecordStore::mark_durable(const std::string& id) const {
  const std::string path = std::string(kCheckpoints) + "/" + id;
  // A checkpoint that was deleted meanwhile needs no mark.
  if (::faccessat(root_.get(), path.c_str(), F_OK, 0) != 0) return {};
  UniqueFd mark =
      TRY(sys::open_at(root_.get(), path + std::string(kDurable), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600));
  if (::fsync(mark.get()) != 0) return os_error("fsync", path);
  UniqueFd dir = TRY(sys::open_at(root_.get(), kCheckpoints, O_RDONLY | O_DIRECTORY));
  if (::fsync(dir.get()) != 0) return os_error("fsync", kCheckpoints);
  return {};
}

}  // namespace deltabox
