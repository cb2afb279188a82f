#include "reconcile/plan_epolls.h"

#include <sys/epoll.h>

#include <algorithm>
#include <string>
#include <tuple>

namespace deltabox {

namespace {

const EpollState* epoll_of(const Description& description) { return std::get_if<EpollState>(&description.state); }

// Of two entries that are one: what they watch, and under which number.
using EntryKey = std::pair<std::int64_t, int>;

std::map<EntryKey, const EpollEntry*> by_key(const EpollState& epoll) {
  std::map<EntryKey, const EpollEntry*> entries;
  for (const EpollEntry& entry : epoll.entries) entries[{entry.description, entry.fd}] = &entry;
  return entries;
}

bool same_setting(const EpollEntry& first, const EpollEntry& second) {
  return std::tie(first.events, first.data) == std::tie(second.events, second.data);
}

// What a program has been told once is not told again: it may have to be, after a rollback.
bool is_told_once(const EpollEntry& entry) {
  return (entry.events & (static_cast<std::uint32_t>(EPOLLET) | static_cast<std::uint32_t>(EPOLLONESHOT))) != 0;
}

bool watches_the_same(const EpollState& live, const EpollState& wanted, const KeptDescriptions& kept) {
  if (live.entries.size() != wanted.entries.size()) return false;
  const auto present = by_key(live);
  return std::all_of(wanted.entries.begin(), wanted.entries.end(), [&](const EpollEntry& entry) {
    const auto stays = entry.description < 0 ? kept.end() : kept.find(static_cast<std::uint32_t>(entry.description));
    if (stays == kept.end()) return false;
    const auto found = present.find({stays->second, entry.fd});
    if (found == present.end()) return false;
    // EPOLL_CTL_MOD refuses these (epoll_ctl(2)).
    const bool exclusive = ((found->second->events | entry.events) & static_cast<std::uint32_t>(EPOLLEXCLUSIVE)) != 0;
    return !exclusive || (same_setting(*found->second, entry) && !is_told_once(entry));
  });
}

int pid_of(const TreeImage& tree, Incarnation incarnation) {
  const ProcessImage* process = tree.find(incarnation);
  return process != nullptr ? process->pid.value : 0;
}

// Through whom an entry is set: best a process that has what is watched under the entry's number.
std::optional<EpollChange> route(const EpollEntry& entry, const std::vector<SlotKey>& epoll_slots,
                                 const Slots& target_slots) {
  const auto watched = target_slots.by_description.find(static_cast<std::uint32_t>(entry.description));
  if (entry.description < 0 || watched == target_slots.by_description.end()) return std::nullopt;
  EpollChange change;
  change.entry = entry;
  for (const auto& [process, epoll_fd] : epoll_slots) {
    const auto slot = target_slots.by_key.find({process, entry.fd});
    if (slot == target_slots.by_key.end() || slot->second->description != entry.description) continue;
    change.process = process;
    change.epoll_fd = epoll_fd;
    return change;
  }
  change.process = epoll_slots.front().first;
  change.epoll_fd = epoll_slots.front().second;
  change.from = watched->second.front();
  return change;
}

}  // namespace

Slots index_slots(const TreeImage& tree, const TreeImage& wanted_processes) {
  Slots slots;
  for (const ProcessImage& process : tree.processes) {
    if (wanted_processes.find(process.incarnation) == nullptr) continue;
    for (const DescriptorSlot& slot : process.descriptors) {
      const SlotKey key{process.incarnation, slot.fd};
      slots.by_key[key] = &slot;
      slots.by_description[slot.description].push_back(key);
    }
  }
  return slots;
}

void drop_other_epolls(const TreeImage& live, const TreeImage& target, KeptDescriptions& kept) {
  // One that goes may be watched by another; each round drops at least one.
  for (bool dropped = true; dropped;) {
    dropped = false;
    for (auto stays = kept.begin(); stays != kept.end();) {
      const EpollState* wanted = epoll_of(target.descriptions[stays->first]);
      const EpollState* present = epoll_of(live.descriptions[stays->second]);
      if (wanted == nullptr || present == nullptr || watches_the_same(*present, *wanted, kept)) {
        ++stays;
        continue;
      }
      stays = kept.erase(stays);
      dropped = true;
    }
  }
}

void plan_epolls(const TreeImage& live, const TreeImage& target, const Slots& target_slots,
                 const KeptDescriptions& kept, DescriptorPlan& plan) {
  for (const auto& [index, keys] : target_slots.by_description) {
    const EpollState* wanted = epoll_of(target.descriptions[index]);
    if (wanted == nullptr) continue;
    const auto stays = kept.find(index);
    const bool add = stays == kept.end();
    const auto present =
        add ? std::map<EntryKey, const EpollEntry*>() : by_key(*epoll_of(live.descriptions[stays->second]));
    for (const EpollEntry& entry : wanted->entries) {
      if (!add) {
        const std::uint32_t watched = kept.at(static_cast<std::uint32_t>(entry.description));
        if (same_setting(*present.at({watched, entry.fd}), entry) && !is_told_once(entry)) continue;
      }
      std::optional<EpollChange> change = route(entry, keys, target_slots);
      if (change) {
        change->add = add;
        plan.epolls.push_back(*change);
      } else {
        plan.unrestorable.push_back({pid_of(target, keys.front().first), "eventpoll",
                                     "descriptor " + std::to_string(keys.front().second) +
                                         ": what it watched as descriptor " + std::to_string(entry.fd) +
                                         " was nobody's at the checkpoint"});
      }
    }
  }
}

std::vector<EpollChange> plan_watching_again(const TreeImage& image, const std::set<std::uint32_t>& remade) {
  std::vector<EpollChange> changes;
  if (remade.empty()) return changes;
  const Slots slots = index_slots(image, image);
  for (const auto& [index, keys] : slots.by_description) {
    const EpollState* epoll = epoll_of(image.descriptions[index]);
    if (epoll == nullptr) continue;
    for (const EpollEntry& entry : epoll->entries) {
      if (entry.description < 0 || !remade.contains(static_cast<std::uint32_t>(entry.description))) continue;
      std::optional<EpollChange> change = route(entry, keys, slots);
      if (!change) continue;
      change->add = true;
      changes.push_back(*change);
    }
  }
  return changes;
}

}  // namespace deltabox
