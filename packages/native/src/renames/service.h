// The engine's side of renames: starts the renames process, keeps it out of pauses, replaces it when it dies.
#pragma once

#include <sys/types.h>

#include <optional>

#include "base/ids.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "renames/gate.h"

namespace deltabox::renames {

struct ServiceContext {
  int proc_fd = -1;  // the host's /proc
  int m1_fd = -1;    // the mount namespace of the tasks
  HostTid init;      // whose user namespace is the tasks'
};

// No rename is under way while one exists.
class Pause {
 public:
  explicit Pause(Gate* gate) : gate_(gate) {}
  Pause(Pause&& other) noexcept;
  Pause& operator=(Pause&&) = delete;
  Pause(const Pause&) = delete;
  Pause& operator=(const Pause&) = delete;
  ~Pause();
  void end();

 private:
  Gate* gate_;
};

class Service {
 public:
  // Without a listener there is no process, and directories of lower layers can't be renamed.
  static Result<Service> start(UniqueFd listener, const ServiceContext& context);
  Service() = default;
  Service(Service&& other) noexcept;
  Service& operator=(Service&& other) noexcept;
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;
  ~Service();

  bool available() const { return listener_.valid(); }
  // Before a freeze. BUSY when a directory is being moved for longer than it is waited for.
  Result<Pause> pause();
  // Readable when the process has died; -1 when there is none.
  int death_fd() const { return pidfd_.get(); }
  // Puts another process in place of one that died. Its calls fail with EIO.
  Result<void> revive();

 private:
  Result<void> spawn();
  void end();

  UniqueFd listener_;
  ServiceContext context_;
  std::optional<Gate> gate_;
  pid_t process_ = 0;
  UniqueFd pidfd_;
};

}  // namespace deltabox::renames
