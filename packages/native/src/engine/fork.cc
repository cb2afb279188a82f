#include "engine/fork.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <vector>

#include "base/packed_record.h"
#include "checkpoint/records.h"
#include "images/image_store.h"
#include "sys/file_copy.h"
#include "sys/files.h"

namespace deltabox {

namespace {

constexpr const char* kRequestFile = "/create.request";
constexpr std::size_t kMaxRequestBytes = 16u << 20;  // of a frame

Result<void> give_to(int dir_fd, const std::string& path, const IdMap& id_map) {
  if (::fchownat(dir_fd, path.c_str(), id_map.outside_uid, id_map.outside_gid, AT_SYMLINK_NOFOLLOW) != 0) {
    return os_error("fchownat", path);
  }
  return {};
}

Result<void> make_dir(int dir_fd, const std::string& path, const IdMap& id_map) {
  TRY(sys::make_dir_at(dir_fd, path, 0700));
  return give_to(dir_fd, path, id_map);
}

// A file that nobody writes again: as a link, or as a copy where the file system makes no more links.
Result<void> share_file(int from_fd, int to_fd, const std::string& path, const IdMap& id_map) {
  if (::linkat(from_fd, path.c_str(), to_fd, path.c_str(), 0) == 0) return {};
  if (errno == ENOENT) return os_error("linkat", path);
  UniqueFd from = TRY(sys::open_at(from_fd, path, O_RDONLY | O_NOFOLLOW));
  UniqueFd to = TRY(sys::open_at(to_fd, path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
  TRY(sys::copy_file_data(from.get(), to.get()));
  return give_to(to_fd, path, id_map);
}

Result<records::Checkpoint> read_lent(int store_fd, const std::string& id) {
  const std::string name = "the record of " + id;
  records::Checkpoint checkpoint;
  const std::string file = TRY(sys::read_file_at(store_fd, "checkpoints/" + id, kMaxRequestBytes));
  if (!checkpoint.ParseFromString(TRY(unpack_record(file, name))) || checkpoint.id() != id) {
    return damaged_record(name, "it can't be parsed");
  }
  return checkpoint;
}

}  // namespace

Result<void> keep_request(const v1::CreateRequest& request) {
  return sys::write_file_at(AT_FDCWD, request.state_dir() + kRequestFile, pack_record(request.SerializeAsString()));
}

Result<v1::CreateRequest> kept_request(const std::string& state_dir, const std::string& id) {
  const std::string path = state_dir + kRequestFile;
  v1::CreateRequest request;
  const std::string file = TRY(sys::read_file_at(AT_FDCWD, path, kMaxRequestBytes));
  if (!request.ParseFromString(TRY(unpack_record(file, path))) || (!id.empty() && request.id() != id)) {
    return make_error(Code::kDamaged, path + " is damaged", "Remove the sandbox.");
  }
  request.set_state_dir(state_dir);
  return request;
}

Result<v1::CreateRequest> request_of_fork(const v1::CreateRequest& fork) {
  const v1::ForkOrigin& origin = fork.fork();
  v1::CreateRequest request = TRY(kept_request(origin.state_dir(), ""));
  v1::Donor& donor = *request.add_donors();
  donor.set_store(origin.state_dir() + "/store");
  donor.set_last_layer(origin.last_layer());
  request.set_id(fork.id());
  request.set_state_dir(fork.state_dir());
  request.set_created_at_ms(fork.created_at_ms());
  request.set_idle_timeout_ms(fork.idle_timeout_ms());
  request.set_orphan_timeout_ms(fork.orphan_timeout_ms());
  *request.mutable_metadata() = fork.metadata();
  return request;
}

Result<void> make_forked_store(const v1::CreateRequest& request, const v1::ForkOrigin& origin, const IdMap& id_map) {
  UniqueFd lender = TRY(sys::open_at(AT_FDCWD, origin.state_dir() + "/store", O_RDONLY | O_DIRECTORY));
  const std::string& id = origin.checkpoint_id();
  records::Checkpoint checkpoint = TRY(read_lent(lender.get(), id));
  const std::string path = request.state_dir() + "/store";
  TRY(make_dir(AT_FDCWD, path, id_map));
  UniqueFd store = TRY(sys::open_at(AT_FDCWD, path, O_RDONLY | O_DIRECTORY));
  for (const char* dir : {"checkpoints", "images", "pages"}) TRY(make_dir(store.get(), dir, id_map));
  const RecordStore own = TRY(RecordStore::open(store.get()));
  checkpoint.clear_parent();
  TRY(own.write_checkpoint(checkpoint));
  TRY(give_to(store.get(), "checkpoints/" + id, id_map));
  if (::faccessat(lender.get(), ("images/" + id).c_str(), F_OK, 0) == 0) {
    for (const std::string& file : TRY(image_files(lender.get(), id))) {
      TRY(share_file(lender.get(), store.get(), file, id_map));
    }
  }
  // The live state, as if an engine had ended right after the checkpoint.
  const records::State lenders = TRY(TRY(RecordStore::open(lender.get())).read_state());
  records::State state;
  state.set_version(kRecordVersion);
  state.set_boot_id(lenders.boot_id());
  state.set_head(id);
  state.set_next_checkpoint(lenders.next_checkpoint());
  for (const records::Stack& stack : checkpoint.stacks()) {
    records::LiveVolume& volume = *state.add_volumes();
    volume.set_name(stack.volume());
    *volume.mutable_stack() = stack.layers();
  }
  TRY(own.write_state(state));
  return give_to(store.get(), "state", id_map);
}

}  // namespace deltabox
