// The part of a descriptor plan that is about epolls: what one watches is named by open file descriptions, so it
// depends on which of these stay. Pure.
#pragma once

#include <map>
#include <utility>
#include <vector>

#include "reconcile/plan.h"

namespace deltabox {

using SlotKey = std::pair<Incarnation, int>;
struct Slots {
  std::map<SlotKey, const DescriptorSlot*> by_key;
  std::map<std::uint32_t, std::vector<SlotKey>> by_description;
};
// Of the processes that both trees have.
Slots index_slots(const TreeImage& tree, const TreeImage& wanted_processes);
// Descriptions of the target that stay, and the live ones that they are.
using KeptDescriptions = std::map<std::uint32_t, std::uint32_t>;

// An epoll stays when it watches the same descriptions under the same numbers: entries can only be added and taken
// through a descriptor that leads to what they are for, and what is gone has taken its entries along.
void drop_other_epolls(const TreeImage& live, const TreeImage& target, KeptDescriptions& kept);

void plan_epolls(const TreeImage& live, const TreeImage& target, const Slots& target_slots,
                 const KeptDescriptions& kept, DescriptorPlan& plan);

// Entries for descriptions that were made anew under unchanged processes.
std::vector<EpollChange> plan_watching_again(const TreeImage& image, const std::set<std::uint32_t>& remade);

}  // namespace deltabox
