// The requests about commands, and the events that commands cause.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "checkpoint/transaction.h"
#include "deltabox.pb.h"
#include "engine/client.h"
#include "engine/commands.h"
#include "engine/poll_set.h"

namespace deltabox {

using Clients = std::map<ClientId, std::unique_ptr<Client>>;

class CommandRequests {
 public:
  // environment: put before a command's own; cwd: where a command starts that names no directory.
  // output_limit: as of CommandTable.
  CommandRequests(SandboxState& state, Clients& clients, const std::vector<std::string>& environment,
                  const std::string& cwd, std::uint64_t output_limit);

  // Nothing when the request is not about commands. Descriptors for the client go to `fds`.
  std::optional<Result<v1::EngineFrame>> handle(Client& client, const v1::ClientFrame& request,
                                                std::vector<UniqueFd>& fds);
  // Output of commands first, then the ends of commands: a command's last words come before its end.
  void add_sources(PollSet& sources, Result<void>& failure);
  // The client gets what a background command printed so far, and what it prints from now on.
  void follow(Client& client, Command& command);
  Command* find(CommandId id) { return table_.find(id); }
  void client_left(ClientId client) { table_.client_left(client); }
  // Commands whose first process a rollback made anew run again.
  void mark_restored(const std::map<CommandId, HostTid>& restored);
  // Ends all that runs, as far as it is a command.
  void end_for_limit(const char* limit);
  void mark_rolled_back(const std::vector<InsidePid>& ended);
  std::size_t running() const;
  void forget_old() { table_.forget_old(); }

 private:
  Result<v1::EngineFrame> run(Client& client, const v1::RunRequest& request, std::vector<UniqueFd>& fds);
  Result<v1::EngineFrame> attach(Client& client, const v1::AttachCommandRequest& request);
  void read_output(Command& command, int stream_index);
  bool is_held_back(const Command& command) const;
  Result<void> collect_exits();
  void announce_exit(const Command& command);

  SandboxState& state_;
  Clients& clients_;
  const std::vector<std::string>& environment_;
  const std::string& cwd_;
  CommandTable table_;
};

}  // namespace deltabox
