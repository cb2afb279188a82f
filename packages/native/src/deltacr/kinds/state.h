// What an image holds of an object that only descriptors lead to.
#pragma once

#include <variant>

#include "deltacr/kinds/epoll.h"
#include "deltacr/kinds/eventfd.h"
#include "deltacr/kinds/inotify.h"
#include "deltacr/kinds/signalfd.h"
#include "deltacr/kinds/timerfd.h"

namespace deltabox {

// monostate: of a kind whose state is not captured.
using ObjectState = std::variant<std::monostate, EventfdState, TimerfdState, SignalfdState, EpollState, InotifyState>;

inline bool is_captured(const ObjectState& state) { return !std::holds_alternative<std::monostate>(state); }

}  // namespace deltabox
