#include "reconcile/socket_io.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <set>
#include <string>
#include <utility>

#include "reconcile/bind_again.h"
#include "reconcile/descriptor_io.h"
#include "reconcile/kinds/socket.h"
#include "reconcile/remote_calls.h"
#include "reconcile/time_wait.h"
#include "sys/processes.h"

namespace deltabox {

namespace {

using parasite::Call;
using parasite::make_call;

Result<UniqueFd> make_socket_like(HeldProcess& held, const SocketState& wanted) {
  return make_socket_in(held, wanted.family, wanted.type, wanted.protocol);
}

// Who listens is shown to those that connect, and is the process, too.
Result<UniqueFd> make_lone_socket(HeldProcess& held, const SocketState& wanted, int m1_root) {
  if (!wanted.listens) {
    UniqueFd fd = TRY(make_socket_like(held, wanted));
    if (wanted.is_over() && !wanted.queue.empty()) {
      TRY(set_up_tcp_over(fd.get(), wanted, TRY(make_socket_like(held, wanted))));
      return fd;
    }
    TRY(set_up_lone_socket(fd.get(), wanted, m1_root));
    return fd;
  }
  Call make =
      make_call(SYS_socket, static_cast<std::uint64_t>(wanted.family),
                static_cast<std::uint64_t>(wanted.type) | SOCK_CLOEXEC, static_cast<std::uint64_t>(wanted.protocol));
  TRY(held.session.run(held.live->site, {&make, 1}));
  if (make.result < 0) return os_error_from(static_cast<int>(-make.result), "socket in a tracee");
  const auto inside = static_cast<std::uint64_t>(make.result);
  Result<UniqueFd> fd = sys::pidfd_get_fd(held.live->pidfd.get(), static_cast<int>(make.result));
  const Result<void> named = fd.ok() ? set_up_lone_socket(fd.value().get(), wanted, m1_root) : fd.error();
  std::vector<Call> calls;
  if (named.ok()) calls.push_back(make_call(SYS_listen, inside, static_cast<std::uint64_t>(wanted.backlog)));
  calls.push_back(make_call(SYS_close, inside));
  TRY(run_batched(held.session, held.live->site, calls));
  TRY(named);
  if (calls.front().result < 0) return failed_call(held, "listen in a tracee", calls.front());
  return fd;
}

Result<std::pair<UniqueFd, UniqueFd>> make_unix_pair_in(HeldProcess& held, const SocketState& wanted) {
  Call make =
      make_call(SYS_socketpair, AF_UNIX, static_cast<std::uint64_t>(wanted.type) | SOCK_CLOEXEC, 0, buffer_at(held, 0));
  TRY(held.session.run(held.live->site, {&make, 1}));
  if (make.result < 0) return os_error_from(static_cast<int>(-make.result), "socketpair in a tracee");
  int ends[2] = {-1, -1};
  TRY(held.session.read_buffer(held.live->site, 0, ends, sizeof ends));
  UniqueFd first = TRY(take(held, ends[0]));
  return std::pair(std::move(first), TRY(take(held, ends[1])));
}

// `peer`: null when the other end was closed.
Result<std::pair<UniqueFd, UniqueFd>> make_pair(HeldProcess& held, const SocketState& wanted, const SocketState* peer) {
  const SocketState other = peer != nullptr ? *peer : closed_end_of(wanted);
  std::pair<UniqueFd, UniqueFd> pair;
  if (wanted.is_unix()) {
    pair = TRY(make_unix_pair_in(held, wanted));
    TRY(set_up_unix_pair(pair.first.get(), wanted, pair.second.get(), other));
  } else {
    pair.first = TRY(make_socket_like(held, wanted));
    pair.second = TRY(make_socket_like(held, other));
    TRY(set_up_tcp_pair(pair.first.get(), wanted, pair.second.get(), other));
  }
  return pair;
}

const SlotInstall* first_install(const DescriptorPlan& plan, std::uint32_t description) {
  const auto found = std::find_if(plan.install.begin(), plan.install.end(),
                                  [&](const SlotInstall& install) { return install.description == description; });
  return found != plan.install.end() ? &*found : nullptr;
}

Result<void> set_flags(const UniqueFd& fd, const Description& wanted) {
  if (::fcntl(fd.get(), F_SETFL, wanted.status_flags & kSettableFlags) != 0) return os_error("fcntl", "F_SETFL");
  return {};
}

Result<void> make_one(ApplyContext& context, const DescriptorPlan& plan, const TreeImage& target, std::uint32_t index,
                      const std::map<std::uint64_t, std::uint32_t>& by_cookie,
                      std::map<std::uint32_t, UniqueFd>& made) {
  const Description& description = target.descriptions[index];
  const SocketState& wanted = *description.socket;
  const SlotInstall* install = first_install(plan, index);
  HeldProcess* held = install != nullptr ? context.capture->find(install->process) : nullptr;
  if (held == nullptr) return make_error(Code::kInternal, "a socket of nobody");
  if (wanted.peer_cookie == 0 && !wanted.peer_is_gone) {
    UniqueFd fd = TRY(make_lone_socket(*held, wanted, context.m1_root));
    TRY(set_flags(fd, description));
    made[index] = std::move(fd);
    return {};
  }
  const auto peer = by_cookie.find(wanted.peer_cookie);
  const bool has_peer = wanted.peer_cookie != 0 && peer != by_cookie.end();
  const Description* other = has_peer ? &target.descriptions[peer->second] : nullptr;
  auto [first, second] = TRY(make_pair(*held, wanted, has_peer ? other->socket.get() : nullptr));
  TRY(set_flags(first, description));
  if (has_peer) {
    TRY(set_flags(second, *other));
    made[peer->second] = std::move(second);
  }
  made[index] = std::move(first);
  return {};
}

struct Holder {
  HeldProcess* held = nullptr;
  int fd = -1;
};
Result<Holder> holder_of(TreeCapture& capture, const TreeImage& image, std::uint32_t description) {
  for (const ProcessImage& process : image.processes) {
    for (const DescriptorSlot& slot : process.descriptors) {
      if (slot.description != description) continue;
      if (HeldProcess* held = capture.find(process.incarnation)) return Holder{held, slot.fd};
    }
  }
  return make_error(Code::kInternal, "a socket of nobody");
}

Result<UniqueFd> duplicate_of(ApplyContext& context, const TreeImage& target, std::uint32_t description) {
  const Holder holder = TRY(holder_of(*context.capture, target, description));
  return sys::pidfd_get_fd(holder.held->live->pidfd.get(), holder.fd);
}

// Each from a socket of its own: one alone may not have so much on its way.
Result<void> send_by_path(HeldProcess& held, const SocketState& receiver, int m1_root) {
  for (const std::string& bytes : receiver.queue) {
    const UniqueFd sender = TRY(make_socket_like(held, receiver));
    TRY(connect_again(sender.get(), receiver, m1_root));
    if (::send(sender.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
      return os_error("send", receiver.node.path);
    }
  }
  return {};
}

}  // namespace

Result<UniqueFd> make_bound_socket(HeldProcess& held, const Description& wanted, int m1_root) {
  UniqueFd fd = TRY(make_lone_socket(held, *wanted.socket, m1_root));
  TRY(set_flags(fd, wanted));
  return fd;
}

void settle_datagrams(TreeCapture& capture, const TreeImage& image, const NewDatagrams& news, int m1_root,
                      std::vector<Notice>& failures) {
  std::map<std::uint64_t, std::uint32_t> by_cookie;
  for (std::uint32_t index = 0; index < image.descriptions.size(); ++index) {
    const Description& description = image.descriptions[index];
    if (description.socket && description.socket->is_unix_datagram()) by_cookie[description.socket->cookie] = index;
  }
  const auto settle = [&](const Holder& holder, std::uint32_t index, const SocketState& wanted) -> Result<void> {
    const bool is_made = news.made.contains(index);
    if (is_made && wanted.can_be_filled_by_path()) TRY(send_by_path(*holder.held, wanted, m1_root));
    const auto target = by_cookie.find(wanted.target_cookie);
    if (target == by_cookie.end()) return {};
    if (!is_made && !news.made.contains(target->second) && !news.redirected.contains(index)) return {};
    const UniqueFd duplicate = TRY(sys::pidfd_get_fd(holder.held->live->pidfd.get(), holder.fd));
    return connect_again(duplicate.get(), *image.descriptions[target->second].socket, m1_root);
  };
  for (const auto& [cookie, index] : by_cookie) {
    const Result<Holder> holder = holder_of(capture, image, index);
    if (!holder.ok()) continue;
    const Result<void> settled = settle(holder.value(), index, *image.descriptions[index].socket);
    if (settled.ok()) continue;
    failures.push_back({holder.value().held->live->inside.value, "socket",
                        "descriptor " + std::to_string(holder.value().fd) + ": " + settled.error().describe()});
  }
}

namespace {

// A connection whose ends were just closed takes a moment until it waits (TIME_WAIT), on a machine with much to do.
constexpr int kFreedLooks = 50;
constexpr int kBetweenLooks_us = 2000;

// A port is, or both ends of a connection are: connect(2) says the second.
bool is_occupied(const Error& error) { return error.os_errno == EADDRINUSE || error.os_errno == EADDRNOTAVAIL; }

}  // namespace

Result<void> make_sockets(ApplyContext& context, const DescriptorPlan& plan, const TreeImage& target,
                          std::map<std::uint32_t, UniqueFd>& made, ApplyOutcome& outcome) {
  std::map<std::uint64_t, std::uint32_t> by_cookie;
  for (std::uint32_t index = 0; index < target.descriptions.size(); ++index) {
    const Description& description = target.descriptions[index];
    if (description.socket) by_cookie[description.socket->cookie] = index;
  }
  std::vector<std::uint32_t> order;
  for (const std::uint32_t index : plan.make) {
    if (target.descriptions[index].socket) order.push_back(index);
  }
  // Listeners first: their ports are theirs, whatever connections share them.
  std::stable_partition(order.begin(), order.end(),
                        [&](std::uint32_t index) { return target.descriptions[index].socket->listens; });
  for (const std::uint32_t index : order) {
    if (made.contains(index)) continue;
    Result<void> done = make_one(context, plan, target, index, by_cookie, made);
    for (int look = 0; !done.ok() && is_occupied(done.error()) && look < kFreedLooks; ++look) {
      if (look > 0) ::usleep(kBetweenLooks_us);
      const SlotInstall* install = first_install(plan, index);
      TRY(end_time_waits(*context.capture->find(install->process), *target.descriptions[index].socket));
      done = make_one(context, plan, target, index, by_cookie, made);
    }
    if (done.ok()) continue;
    for (const SlotInstall& install : plan.install) {
      if (install.description != index) continue;
      const HeldProcess* held = context.capture->find(install.process);
      outcome.not_restored.push_back(
          {held->live->inside.value, "socket",
           "descriptor " + std::to_string(install.fd) + " could not be made anew: " + done.error().describe()});
    }
  }
  return {};
}

Result<void> correct_sockets(ApplyContext& context, const DescriptorPlan& plan, const TreeImage& live,
                             const TreeImage& target, ApplyOutcome& outcome) {
  const std::set<std::uint32_t> made(plan.make.begin(), plan.make.end());
  std::map<std::uint64_t, const SocketState*> live_by_cookie;
  for (const Description& description : live.descriptions) {
    if (description.socket) live_by_cookie[description.socket->cookie] = description.socket.get();
  }
  std::map<std::uint64_t, std::uint32_t> by_cookie;
  for (std::uint32_t index = 0; index < target.descriptions.size(); ++index) {
    if (target.descriptions[index].socket) by_cookie[target.descriptions[index].socket->cookie] = index;
  }
  const auto correct = [&](std::uint32_t index, const SocketDifference& difference) -> Result<void> {
    const SocketState& wanted = *target.descriptions[index].socket;
    const UniqueFd duplicate = TRY(duplicate_of(context, target, index));
    if (difference.queue) {
      TRY(drain_socket(duplicate.get(), wanted));
      const auto peer = by_cookie.find(wanted.peer_cookie);
      if (wanted.can_be_filled_by_path()) {
        const Holder holder = TRY(holder_of(*context.capture, target, index));
        TRY(send_by_path(*holder.held, wanted, context.m1_root));
      } else if (!wanted.queue.empty() && peer == by_cookie.end()) {
        return make_error(Code::kUnsupported, "what waited in it came from a socket that can't send it again");
      } else if (!wanted.queue.empty()) {
        const UniqueFd sender = TRY(duplicate_of(context, target, peer->second));
        TRY(send_queue(sender.get(), wanted));
      }
    }
    if (difference.options) {
      TRY(set_socket_options(duplicate.get(), wanted));
      if (wanted.listens && ::listen(duplicate.get(), wanted.backlog) != 0) return os_error("listen", "socket");
    }
    return {};
  };
  for (std::uint32_t index = 0; index < target.descriptions.size(); ++index) {
    const Description& description = target.descriptions[index];
    if (!description.socket || made.contains(index)) continue;
    const auto present = live_by_cookie.find(description.socket->cookie);
    if (present == live_by_cookie.end()) continue;  // reported by the plan
    const SocketDifference difference = difference_of(*present->second, *description.socket);
    if (difference.identity || (!difference.queue && !difference.options)) continue;
    const Result<void> corrected = correct(index, difference);
    if (!corrected.ok()) outcome.not_restored.push_back({0, "socket", corrected.error().describe()});
  }
  NewDatagrams news{made, {}};
  for (std::uint32_t index = 0; index < target.descriptions.size(); ++index) {
    const Description& description = target.descriptions[index];
    if (!description.socket) continue;
    const auto present = live_by_cookie.find(description.socket->cookie);
    if (present != live_by_cookie.end() && present->second->target_cookie != description.socket->target_cookie) {
      news.redirected.insert(index);
    }
  }
  settle_datagrams(*context.capture, target, news, context.m1_root, outcome.not_restored);
  return {};
}

}  // namespace deltabox
