#include "reconcile/kinds/correction.h"

#include <algorithm>

namespace deltabox {

namespace {

Correction in_place_unless_equal(bool equal) { return equal ? Correction::kNone : Correction::kInPlace; }

Correction correction_of(const EventfdState& live, const EventfdState& wanted) {
  if (live.semaphore != wanted.semaphore) return Correction::kAnew;
  // A semaphore is emptied one by one, however high it stands.
  if (live.semaphore && live.count != wanted.count) return Correction::kAnew;
  return in_place_unless_equal(live == wanted);
}

Correction correction_of(const TimerfdState& live, const TimerfdState& wanted) {
  if (live.clock != wanted.clock) return Correction::kAnew;
  // The time that is left differs at any two looks.
  return in_place_unless_equal(live == wanted);
}

Correction correction_of(const SignalfdState& live, const SignalfdState& wanted) {
  return in_place_unless_equal(live == wanted);
}

// Entries are planned on their own, with what they watch (plan_epolls.h).
Correction correction_of(const EpollState&, const EpollState&) { return Correction::kNone; }

Correction correction_of(const InotifyState& live, const InotifyState& wanted) {
  if (live.watches != wanted.watches) return Correction::kAnew;
  // As many bytes are taken to be the same events: one that is told twice does less harm than one that is lost.
  return in_place_unless_equal(live.queued_bytes == wanted.queued_bytes);
}

Correction correction_of(std::monostate, std::monostate) { return Correction::kNone; }

}  // namespace

Correction correction_of(const ObjectState& live, const ObjectState& wanted) {
  if (live.index() != wanted.index()) return Correction::kAnew;
  return std::visit(
      [&](const auto& state) { return correction_of(std::get<std::decay_t<decltype(state)>>(live), state); }, wanted);
}

bool watches_any(const ObjectState& state, const std::set<int>& volumes) {
  const auto* inotify = std::get_if<InotifyState>(&state);
  return inotify != nullptr && std::any_of(inotify->watches.begin(), inotify->watches.end(),
                                           [&](const InotifyWatch& watch) { return volumes.contains(watch.volume); });
}

}  // namespace deltabox
