#include "reconcile/kinds/objects.h"

#include "reconcile/kinds/epoll.h"
#include "reconcile/kinds/eventfd.h"
#include "reconcile/kinds/inotify.h"
#include "reconcile/kinds/signalfd.h"
#include "reconcile/kinds/timerfd.h"

namespace deltabox {

namespace {

struct Make {
  const ObjectPlace& place;
  std::vector<std::string>& lost;
  Result<UniqueFd> operator()(std::monostate) const {
    return make_error(Code::kInternal, "an object whose state is not known");
  }
  Result<UniqueFd> operator()(const EventfdState& wanted) const { return make_eventfd(wanted); }
  Result<UniqueFd> operator()(const TimerfdState& wanted) const { return make_timerfd(wanted); }
  Result<UniqueFd> operator()(const EpollState&) const { return make_epoll(); }
  Result<UniqueFd> operator()(const SignalfdState& wanted) const { return make_signalfd(wanted); }
  Result<UniqueFd> operator()(const InotifyState& wanted) const {
    return make_inotify(wanted, place.m1_root, place.self_fd_dir, lost);
  }
};

Result<void> correct(int, std::monostate) { return {}; }
Result<void> correct(int duplicate, const InotifyState&) { return correct_inotify(duplicate); }
Result<void> correct(int, const EpollState&) { return {}; }
Result<void> correct(int duplicate, const EventfdState& wanted) { return correct_eventfd(duplicate, wanted); }
Result<void> correct(int duplicate, const TimerfdState& wanted) { return correct_timerfd(duplicate, wanted); }
Result<void> correct(int duplicate, const SignalfdState& wanted) { return correct_signalfd(duplicate, wanted); }

}  // namespace

Result<UniqueFd> make_object(const ObjectState& wanted, const ObjectPlace& place, std::vector<std::string>& lost) {
  return std::visit(Make{place, lost}, wanted);
}

Result<void> correct_object(int duplicate, const ObjectState& wanted) {
  return std::visit([&](const auto& state) { return correct(duplicate, state); }, wanted);
}

}  // namespace deltabox
