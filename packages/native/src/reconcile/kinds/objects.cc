#include "reconcile/kinds/objects.h"

#include "reconcile/kinds/epoll.h"
#include "reconcile/kinds/eventfd.h"
#include "reconcile/kinds/signalfd.h"
#include "reconcile/kinds/timerfd.h"

namespace deltabox {

namespace {

Result<UniqueFd> make(std::monostate) { return make_error(Code::kInternal, "an object whose state is not known"); }
Result<UniqueFd> make(const EventfdState& wanted) { return make_eventfd(wanted); }
Result<UniqueFd> make(const TimerfdState& wanted) { return make_timerfd(wanted); }
Result<UniqueFd> make(const EpollState&) { return make_epoll(); }
Result<UniqueFd> make(const SignalfdState& wanted) { return make_signalfd(wanted); }

Result<void> correct(int, std::monostate) { return {}; }
Result<void> correct(int, const EpollState&) { return {}; }
Result<void> correct(int duplicate, const EventfdState& wanted) { return correct_eventfd(duplicate, wanted); }
Result<void> correct(int duplicate, const TimerfdState& wanted) { return correct_timerfd(duplicate, wanted); }
Result<void> correct(int duplicate, const SignalfdState& wanted) { return correct_signalfd(duplicate, wanted); }

}  // namespace

Result<UniqueFd> make_object(const ObjectState& wanted) {
  return std::visit([](const auto& state) { return make(state); }, wanted);
}

Result<void> correct_object(int duplicate, const ObjectState& wanted) {
  return std::visit([&](const auto& state) { return correct(duplicate, state); }, wanted);
}

}  // namespace deltabox
