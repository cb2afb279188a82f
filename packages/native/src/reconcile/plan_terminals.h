// What must be done about pseudo-terminals. Pure.
#pragma once

#include <cstdint>
#include <set>
#include <vector>

#include "deltacr/image.h"

namespace deltabox {

// The leader of this session lives on, and its controlling terminal is to be another one, or none (-1).
struct SessionTerminal {
  std::int32_t session = 0;
  int terminal = -1;
  bool operator==(const SessionTerminal&) const = default;
};

struct TerminalPlan {
  // Numbers of the target's terminals that are gone, or whose master end has another kind of holder by now.
  std::set<int> make;
  // What new leaders take is theirs to do when they are made.
  std::vector<SessionTerminal> sessions;
};

// Of `live`, the incarnations of the target count.
TerminalPlan plan_terminals(const TreeImage& live, const TreeImage& target);

}  // namespace deltabox
