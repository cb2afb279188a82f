#include "deltacr/kinds/read_state.h"

#include "sys/files.h"

namespace deltabox {

namespace {

constexpr std::size_t kMaxFdinfoBytes = std::size_t{16} << 20;  // a line per entry of an epoll or watch of an inotify

Result<std::string> fdinfo_of(const ObjectSource& source) {
  return sys::read_file_at(source.proc_fd, std::to_string(source.pid.value) + "/fdinfo/" + std::to_string(source.fd),
                           kMaxFdinfoBytes);
}

}  // namespace

Result<ObjectState> read_object_state(const std::string& type, const ObjectSource& source) {
  if (type == "eventfd") {
    Result<EventfdState> state = parse_eventfd(TRY(fdinfo_of(source)));
    if (!state.ok() && state.error().code == Code::kUnsupportedKernel) return ObjectState();
    return ObjectState(TRY(std::move(state)));
  }
  if (type == "signalfd") return ObjectState(TRY(parse_signalfd(TRY(fdinfo_of(source)))));
  if (type == "eventpoll") return ObjectState(TRY(parse_epoll(TRY(fdinfo_of(source)))));
  if (type == "inotify") {
    InotifyState state = TRY(parse_inotify(TRY(fdinfo_of(source))));
    state.queued_bytes = TRY(queued_bytes(source.duplicate));
    return ObjectState(std::move(state));
  }
  if (type == "timerfd") {
    return ObjectState(TRY(read_timerfd(source.duplicate, [&] { return fdinfo_of(source); })));
  }
  return ObjectState();
}

}  // namespace deltabox
