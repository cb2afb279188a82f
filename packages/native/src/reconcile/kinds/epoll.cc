#include "reconcile/kinds/epoll.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cstddef>
#include <map>
#include <string>

#include "reconcile/descriptor_io.h"
#include "sys/processes.h"

namespace deltabox {

namespace {

using parasite::Call;
using parasite::make_call;

std::uint64_t event_at(const HeldProcess& held, std::size_t index) {
  return held.live->site.mapping.value + parasite::kBufferOffset + index * sizeof(epoll_event);
}

epoll_event event_of(const EpollEntry& entry) {
  epoll_event event{};
  event.events = entry.events;
  event.data.u64 = entry.data;
  return event;
}

Call control_call(const HeldProcess& held, const EpollChange& change, std::size_t index, std::uint64_t epoll_fd) {
  return make_call(SYS_epoll_ctl, epoll_fd, change.add ? EPOLL_CTL_ADD : EPOLL_CTL_MOD,
                   static_cast<std::uint64_t>(change.entry.fd), event_at(held, index));
}

Notice refusal(const HeldProcess& held, const EpollChange& change, const Error& error) {
  return {held.live->inside.value, "eventpoll",
          "descriptor " + std::to_string(change.epoll_fd) + ": watching descriptor " + std::to_string(change.entry.fd) +
              ": " + error.describe()};
}

Error refused(const Call& call) { return os_error_from(static_cast<int>(-call.result), "epoll_ctl in a tracee"); }

// What is watched lies under the entry's number already.
Result<void> change_directly(HeldProcess& held, const std::vector<const EpollChange*>& changes,
                             std::vector<Notice>& failed) {
  for (std::size_t start = 0; start < changes.size(); start += parasite::kMaxCalls) {
    const std::size_t count = std::min(parasite::kMaxCalls, changes.size() - start);
    std::vector<epoll_event> events;
    std::vector<Call> calls;
    for (std::size_t index = 0; index < count; ++index) {
      events.push_back(event_of(changes[start + index]->entry));
      const EpollChange& change = *changes[start + index];
      calls.push_back(control_call(held, change, index, static_cast<std::uint64_t>(change.epoll_fd)));
    }
    TRY(held.session.write_buffer(held.live->site, 0, events.data(), events.size() * sizeof(epoll_event)));
    TRY(held.session.run(held.live->site, calls));
    for (std::size_t index = 0; index < count; ++index) {
      if (calls[index].result < 0) failed.push_back(refusal(held, *changes[start + index], refused(calls[index])));
    }
  }
  return {};
}

// What is watched is put under the entry's number for the length of the call. POSIX locks that this gives up are taken
// again afterwards (apply.h).
Result<void> change_with_stand_in(TreeCapture& capture, HeldProcess& held, const EpollChange& change) {
  const HeldProcess* holder = capture.find(change.from->first);
  if (holder == nullptr) return make_error(Code::kInternal, "the holder of a watched descriptor is not held");
  UniqueFd watched = TRY(sys::pidfd_get_fd(holder->live->pidfd.get(), change.from->second));
  const auto fd = static_cast<std::uint64_t>(change.entry.fd);
  Call before[] = {make_call(SYS_fcntl, fd, F_GETFD), make_call(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 0)};
  TRY(held.session.run(held.live->site, before));
  const bool is_open = before[0].result >= 0;
  if (is_open && before[1].result < 0) return refused(before[1]);
  TRY(install_descriptors({{&held, {{watched.get(), change.entry.fd, true}}}}));
  const epoll_event event = event_of(change.entry);
  TRY(held.session.write_buffer(held.live->site, 0, &event, sizeof event));
  const auto kept = static_cast<std::uint64_t>(before[1].result);
  // The epoll itself may have the number by now.
  const std::uint64_t epoll_fd =
      change.epoll_fd == change.entry.fd ? kept : static_cast<std::uint64_t>(change.epoll_fd);
  std::vector<Call> after{control_call(held, change, 0, epoll_fd)};
  if (is_open) {
    after.push_back(make_call(SYS_dup3, kept, fd, (before[0].result & FD_CLOEXEC) != 0 ? O_CLOEXEC : 0));
    after.push_back(make_call(SYS_close, kept));
  } else {
    after.push_back(make_call(SYS_close, fd));
  }
  TRY(held.session.run(held.live->site, after));
  if (after.front().result < 0) return refused(after.front());
  return {};
}

}  // namespace

Result<UniqueFd> make_epoll() {
  UniqueFd made(::epoll_create1(EPOLL_CLOEXEC));
  if (!made) return os_error("epoll_create1");
  return made;
}

Result<void> change_epolls(TreeCapture& capture, const std::vector<EpollChange>& changes, std::vector<Notice>& failed) {
  std::map<Incarnation, std::vector<const EpollChange*>> direct;
  for (const EpollChange& change : changes) {
    if (!change.from) {
      direct[change.process].push_back(&change);
      continue;
    }
    HeldProcess* held = capture.find(change.process);
    if (held == nullptr) return make_error(Code::kInternal, "a process with an epoll is not held");
    const Result<void> changed = change_with_stand_in(capture, *held, change);
    if (!changed.ok()) failed.push_back(refusal(*held, change, changed.error()));
  }
  for (const auto& [process, list] : direct) {
    HeldProcess* held = capture.find(process);
    if (held == nullptr) return make_error(Code::kInternal, "a process with an epoll is not held");
    TRY(change_directly(*held, list, failed));
  }
  return {};
}

}  // namespace deltabox
