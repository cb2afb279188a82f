// The two sides of a probe, with the privileges they have in a sandbox.
//
//   probe's child (host) ── as_engine(): root of U1 ── ProbeTask: root of U2, or pid 1 with the sandbox's namespaces
//
// What the kernel allows depends on who asks: an ordinary user may be forbidden to trace its own child and still
// allowed to trace tasks of a user namespace that it made. So each thing is tried from where the engine does it.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <string>

#include "base/ids.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "doctor/probe.h"

namespace deltabox::doctor {

// The exact namespaces of a sandbox's pid 1, beside its user namespace.
extern const std::uint64_t kSandboxNamespaces;

// Runs `body` in a child that is root of a fresh user namespace with the sandbox's ids, and returns what it returned.
Result<std::string> as_engine(const Context& context, const std::function<Result<std::string>()>& body);

// Gives the calling process a mount namespace from which nothing propagates.
Result<void> make_private_mounts();
// Puts an empty tmpfs on top of "/" of the calling process's mount namespace and returns it.
Result<UniqueFd> mount_tmpfs_on_root();

// A task in a user namespace below the caller's. Its owner kills and reaps it.
class ProbeTask {
 public:
  enum class Ids {
    kHost,      // its namespace gets the sandbox's ids from the host, as the engine's does
    kIdentity,  // its namespace has the same ids as the caller's, as the tasks' has
  };
  // Runs `body(socket)` in the task; the task ends when it returns. `namespaces`: CLONE_NEW… flags beside
  // CLONE_NEWUSER.
  static Result<ProbeTask> start(const Context& context, Ids ids, std::uint64_t namespaces,
                                 const std::function<void(int)>& body);
  ProbeTask(ProbeTask&& other) noexcept;
  ProbeTask(const ProbeTask&) = delete;
  ProbeTask& operator=(const ProbeTask&) = delete;
  ~ProbeTask();

  HostTid tid() const { return tid_; }
  UniqueFd& socket() { return socket_; }
  // The next number that the task said; a negative one is an errno and becomes an Error of `operation`.
  Result<std::int64_t> hear(const char* operation);
  Result<void> say(std::int64_t value);
  // "Go on", and the answer.
  Result<std::int64_t> ask(const char* operation);

 private:
  ProbeTask(HostTid tid, UniqueFd socket);
  HostTid tid_;
  UniqueFd socket_;
};

// The task's side of the conversation. A dead prober ends the task.
void say_to_prober(int socket_fd, std::int64_t value);
void wait_for_prober(int socket_fd);

}  // namespace deltabox::doctor
