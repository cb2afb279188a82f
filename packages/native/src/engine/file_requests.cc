#include "engine/file_requests.h"

#include "engine/sandbox_files.h"
#include "engine/sandbox_tree.h"

namespace deltabox {

namespace {

v1::EngineFrame empty_answer() {
  v1::EngineFrame answer;
  answer.mutable_empty();
  return answer;
}

Result<int> only_descriptor(const Frame& frame) {
  if (frame.fds.size() == 1) return frame.fds[0].get();
  return make_error(Code::kProtocol, "the request needs one descriptor");
}

}  // namespace

FileRequests::FileRequests(const SandboxNamespaces& namespaces, Clients& clients)
    : namespaces_(namespaces),
      clients_(clients),
      writes_(namespaces.m1_root.get()),
      watches_(namespaces.m1_root.get(), namespaces.self_fd_dir.get()) {}

std::optional<Result<v1::EngineFrame>> FileRequests::handle(Client& client, const v1::ClientFrame& request,
                                                            Frame& frame, std::vector<UniqueFd>& fds) {
  switch (request.request_case()) {
    case v1::ClientFrame::kReadFile:
      return read(request.read_file(), fds);
    case v1::ClientFrame::kWriteFile:
    case v1::ClientFrame::kBeginWrite:
    case v1::ClientFrame::kAppendWrite:
    case v1::ClientFrame::kFinishWrite:
      return write_in_pieces(client, request, frame);
    case v1::ClientFrame::kListDir:
    case v1::ClientFrame::kFileInfo:
    case v1::ClientFrame::kMakeDir:
    case v1::ClientFrame::kRename:
    case v1::ClientFrame::kRemove:
      return change_tree(request);
    case v1::ClientFrame::kWatch: {
      Result<std::uint64_t> id = watches_.watch(client.id(), request.watch().path(), request.watch().recursive());
      if (!id.ok()) return id.release_error();
      v1::EngineFrame answer;
      answer.mutable_watch()->set_watch_id(id.value());
      return answer;
    }
    case v1::ClientFrame::kUnwatch:
      watches_.unwatch(client.id(), request.unwatch().watch_id());
      return empty_answer();
    default:
      return std::nullopt;
  }
}

Result<v1::EngineFrame> FileRequests::read(const v1::ReadFileRequest& request, std::vector<UniqueFd>& fds) const {
  OpenedFile file = TRY(open_for_reading(namespaces_.m1_root.get(), request.path()));
  v1::EngineFrame answer;
  answer.mutable_read_file()->set_size_bytes(file.size_bytes);
  answer.mutable_read_file()->set_mode(file.mode);
  fds.push_back(std::move(file.fd));
  return answer;
}

Result<v1::EngineFrame> FileRequests::write_in_pieces(Client& client, const v1::ClientFrame& request, Frame& frame) {
  if (request.has_write_file()) {
    const v1::WriteFileRequest& write = request.write_file();
    const int contents_fd = TRY(only_descriptor(frame));
    TRY(write_whole_file(namespaces_.m1_root.get(), write.path(), contents_fd, write.mode(), write.make_parents()));
  } else if (request.has_begin_write()) {
    v1::EngineFrame answer;
    const v1::BeginWriteRequest& begin = request.begin_write();
    answer.mutable_begin_write()->set_write_id(TRY(writes_.begin(client.id(), begin.path(), begin.make_parents())));
    return answer;
  } else if (request.has_append_write()) {
    TRY(writes_.append(client.id(), request.append_write().write_id(), TRY(only_descriptor(frame))));
  } else {
    const v1::FinishWriteRequest& finish = request.finish_write();
    TRY(finish.discard() ? writes_.discard(client.id(), finish.write_id())
                         : writes_.finish(client.id(), finish.write_id(), finish.mode()));
  }
  return empty_answer();
}

Result<v1::EngineFrame> FileRequests::change_tree(const v1::ClientFrame& request) const {
  const int root = namespaces_.m1_root.get();
  v1::EngineFrame answer;
  switch (request.request_case()) {
    case v1::ClientFrame::kListDir:
      *answer.mutable_dir_entries() = TRY(list_directory(root, request.list_dir().path(), request.list_dir().after()));
      return answer;
    case v1::ClientFrame::kFileInfo:
      *answer.mutable_file_info() = TRY(file_info(root, request.file_info().path()));
      return answer;
    case v1::ClientFrame::kMakeDir:
      answer.mutable_make_dir()->set_created(
          TRY(make_directory(root, request.make_dir().path(), request.make_dir().mode() & 07777)));
      return answer;
    case v1::ClientFrame::kRename:
      TRY(rename_entry(root, request.rename().from(), request.rename().to()));
      return empty_answer();
    default:
      answer.mutable_remove()->set_done(TRY(remove_entry(root, request.remove().path())));
      return answer;
  }
}

// While a watcher does not keep up, its events stay in the kernel's queue, which says when it overflows.
void FileRequests::add_sources(PollSet& sources) {
  for (const auto& [id, client] : clients_) {
    if (client->is_congested() && watches_.has_watch_of(id)) return;
  }
  if (watches_.fd() >= 0) sources.add(watches_.fd(), POLLIN, [this](short) { watches_.read(); });
}

void FileRequests::volumes_switched() {
  writes_.checkpoint_taken();
  watches_.move_to_new_overlays();
}

void FileRequests::rolled_back() {
  writes_.rolled_back();
  watches_.rolled_back();
}

void FileRequests::client_left(ClientId client) {
  writes_.client_left(client);
  watches_.client_left(client);
}

void FileRequests::send_events() {
  for (const Watches::Event& event : watches_.take_events()) {
    const auto client = clients_.find(event.client);
    if (client != clients_.end()) client->second->send(event.frame);
  }
}

}  // namespace deltabox
