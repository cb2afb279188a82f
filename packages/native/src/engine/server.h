// The engine's event loop: one thread, one queue. Requests of all clients are carried out one after another in the
// order in which they arrive, which is what makes a generation number mean something.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "base/result.h"
#include "checkpoint/transaction.h"
#include "deltabox.pb.h"
#include "engine/answered_calls.h"
#include "engine/client.h"
#include "engine/command_requests.h"
#include "engine/disk_limit.h"
#include "engine/file_requests.h"
#include "engine/limits.h"
#include "engine/network.h"
#include "engine/poll_set.h"

namespace deltabox {

struct SandboxIdentity {
  std::string id;
  std::string workspace;
  std::string workspace_mount;
  std::uint64_t created_at_ms = 0;
  std::uint64_t idle_timeout_ms = 0;    // 0: none
  std::uint64_t orphan_timeout_ms = 0;  // 0: none
  std::map<std::string, std::string> metadata;
  std::vector<std::string> environment;  // put before a command's own
  std::vector<std::string> warnings;
  std::vector<std::string> network_allow;
};

class Server {
 public:
  Server(std::unique_ptr<SandboxState> state, SandboxIdentity identity, SandboxNetwork network, SandboxLimits limits,
         std::unique_ptr<DiskLimit> disk, UniqueFd listener, int allowed_peer_uid);

  // A fork: its processes live on from the checkpoint; with `hold` from when its creator says so.
  Result<void> begin_from(const std::string& checkpoint, bool hold);
  // After the end of an earlier engine. With `processes` they live on from the head, if they were written down there;
  // the files as they were last become a checkpoint.
  void go_on_after_engine(bool processes);
  // The client that created the sandbox; its creation request is answered here.
  void adopt_creator(UniqueFd socket, std::uint64_t request_id);
  // Returns when the sandbox was killed, timed out or broke.
  Result<void> run();

 private:
  // How much happened.
  Result<int> serve_round(int timeout_ms);
  void accept_client();
  void serve_client(Client& client);
  void refuse_client(UniqueFd socket, const Error& reason);
  void handle(Client& client, Frame frame);
  Result<v1::EngineFrame> answer(Client& client, const v1::ClientFrame& request, Frame& frame,
                                 std::vector<UniqueFd>& fds, CommandId& joined);
  // The body of the answer; its descriptors go to `fds`.
  Result<v1::EngineFrame> dispatch(Client& client, const v1::ClientFrame& request, Frame& frame,
                                   std::vector<UniqueFd>& fds);
  void drop_client(ClientId id);

  void fill_info(v1::SandboxInfo& info) const;
  Result<v1::EngineFrame> take_checkpoint(const v1::CheckpointRequest& request);
  Result<v1::EngineFrame> roll_back(const v1::RollbackRequest& request);
  Result<v1::EngineFrame> list_checkpoints() const;

  Result<RollbackOutcome> bring_over(const std::string& checkpoint, const RollbackOptions& options);
  void broadcast(const v1::EngineFrame& frame);
  Client* client_of(ClientId id);
  // Why the sandbox is to end, or null.
  const char* timed_out() const;
  // Refuses what takes more of the disk than the limit leaves.
  Result<void> check_disk(const v1::ClientFrame& request, const Frame& frame);
  void disk_measured();
  int tick_ms() const;
  void end_sandbox();
  Result<void> discard(const char* reason);
  void drop_broken_clients();

  std::unique_ptr<SandboxState> state_;
  SandboxIdentity identity_;
  SandboxNetwork network_;
  SandboxLimits limits_;
  std::unique_ptr<DiskLimit> disk_;
  UniqueFd listener_;
  int allowed_peer_uid_;
  Clients clients_;
  CommandRequests commands_;
  FileRequests files_;
  AnsweredCalls answered_calls_;
  ClientId next_client_ = 1;
  ClientId creator_ = 0;
  std::uint64_t generation_ = 1;
  std::uint64_t started_ms_ = 0;
  std::uint64_t last_activity_ms_ = 0;
  bool killed_ = false;
  bool settle_needed_ = true;
};

}  // namespace deltabox
