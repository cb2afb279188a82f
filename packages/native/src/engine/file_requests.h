// The requests about files, and the events of watched directories.
#pragma once

#include <optional>
#include <vector>

#include "base/result.h"
#include "engine/client.h"
#include "engine/command_requests.h"
#include "engine/poll_set.h"
#include "engine/staged_writes.h"
#include "engine/watches.h"
#include "sandbox/namespaces.h"

namespace deltabox {

class FileRequests {
 public:
  FileRequests(const SandboxNamespaces& namespaces, Clients& clients);

  // Nothing when the request is not about files.
  std::optional<Result<v1::EngineFrame>> handle(Client& client, const v1::ClientFrame& request, Frame& frame,
                                                std::vector<UniqueFd>& fds);
  void add_sources(PollSet& sources);
  // Inside the pause of a checkpoint: no event is lost then.
  void volumes_switched();
  void rolled_back();
  void client_left(ClientId client);
  void send_events();

 private:
  Result<v1::EngineFrame> read(const v1::ReadFileRequest& request, std::vector<UniqueFd>& fds) const;
  Result<v1::EngineFrame> write_in_pieces(Client& client, const v1::ClientFrame& request, Frame& frame);
  Result<v1::EngineFrame> change_tree(const v1::ClientFrame& request) const;

  const SandboxNamespaces& namespaces_;
  Clients& clients_;
  StagedWrites writes_;
  Watches watches_;
};

}  // namespace deltabox
