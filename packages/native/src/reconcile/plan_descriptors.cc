#include <fcntl.h>

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "reconcile/kinds/correction.h"
#include "reconcile/plan.h"
#include "reconcile/plan_epolls.h"
#include "reconcile/plan_terminals.h"

namespace deltabox {

namespace {

int pid_of(const TreeImage& tree, Incarnation incarnation) {
  const ProcessImage* process = tree.find(incarnation);
  return process != nullptr ? process->pid.value : 0;
}

// What descriptors can't go on with: it is another one by now.
struct Renewed {
  std::set<int> volumes = {};
  std::set<SharedObjectId> memory = {};
  std::set<int> terminals = {};
};

// Whether this live description, which one of the wanted one's slots holds, can be it.
bool can_be(const Description& present, const Description& wanted, const Renewed& renewed) {
  if (!present.same_object(wanted) || present.locks != wanted.locks) return false;
  if (correction_of(present.state, wanted.state) == Correction::kAnew) return false;
  if (watches_any(present.state, renewed.volumes) || watches_any(wanted.state, renewed.volumes)) return false;
  if (renewed.memory.contains(wanted.shared_object) || renewed.terminals.contains(wanted.terminal)) return false;
  if (wanted.socket && renewed.volumes.contains(wanted.socket->node.volume)) return false;
  if (wanted.socket && difference_of(*present.socket, *wanted.socket).identity) return false;
  if (wanted.is_deleted_file()) return false;  // one file, made anew, serves all its descriptors and mappings
  const bool is_left = renewed.volumes.contains(present.volume) || renewed.volumes.contains(wanted.volume);
  // A removed file can't be opened anew; it may stay behind where nothing can be written through it.
  const bool may_stay_behind = wanted.deleted && (present.status_flags & O_ACCMODE) == O_RDONLY;
  return !is_left || may_stay_behind;
}

// The live slot whose description stays, if there is one. Slots of the target that hold something else, or nothing,
// get it from there; live slots beyond the target's are closed or replaced.
const SlotKey* find_staying(const std::vector<SlotKey>& keys, const Description& wanted, const TreeImage& live,
                            const Slots& slots, const Renewed& renewed, const std::set<std::uint32_t>& taken) {
  for (const SlotKey& key : keys) {
    const auto slot = slots.by_key.find(key);
    if (slot == slots.by_key.end() || taken.contains(slot->second->description)) continue;
    if (can_be(live.descriptions[slot->second->description], wanted, renewed)) return &key;
  }
  return nullptr;
}

// Sockets of the target that are made anew, since something of them is gone that no call brings back. Both ends of a
// connection are, when one is: nothing connects an old end with a new one.
std::set<std::uint32_t> sockets_to_renew(const TreeImage& live, const TreeImage& target, const Slots& live_slots,
                                         const Slots& target_slots, const std::set<int>& switched) {
  std::set<std::uint32_t> renewed;
  std::map<std::uint64_t, std::uint32_t> by_cookie;
  for (std::uint32_t index = 0; index < target.descriptions.size(); ++index) {
    const Description& wanted = target.descriptions[index];
    if (wanted.socket) by_cookie[wanted.socket->cookie] = index;
  }
  for (const auto& [index, keys] : target_slots.by_description) {
    const Description& wanted = target.descriptions[index];
    if (!wanted.socket || !can_be_made(*wanted.socket)) continue;
    const auto peer = by_cookie.find(wanted.socket->peer_cookie);
    if (peer != by_cookie.end() && !can_be_made(*target.descriptions[peer->second].socket)) continue;
    const SlotKey* source = find_staying(keys, wanted, live, live_slots, {switched}, {});
    bool stays = source != nullptr;
    if (stays) {
      const SocketState& present = *live.descriptions[live_slots.by_key.at(*source)->description].socket;
      const bool is_fed_by_peer =
          peer != by_cookie.end() && (target.descriptions[peer->second].socket->shutdown & 2) == 0;
      const bool had_peer = wanted.socket->is_connected() || wanted.socket->is_over();
      if (difference_of(present, *wanted.socket).queue && had_peer && !is_fed_by_peer) stays = false;
    }
    if (stays) continue;
    renewed.insert(index);
    if (peer != by_cookie.end()) renewed.insert(peer->second);
  }
  return renewed;
}

KeptDescriptions find_kept(const TreeImage& live, const Slots& live_slots, const TreeImage& target,
                           const Slots& target_slots, const Renewed& renewed,
                           const std::set<std::uint32_t>& renewed_sockets) {
  KeptDescriptions kept;
  std::set<std::uint32_t> taken;  // live descriptions that stay; each stays for one of the target's
  for (const auto& [index, keys] : target_slots.by_description) {
    if (renewed_sockets.contains(index)) continue;
    const SlotKey* source = find_staying(keys, target.descriptions[index], live, live_slots, renewed, taken);
    if (source == nullptr) continue;
    kept[index] = live_slots.by_key.at(*source)->description;
    taken.insert(kept[index]);
  }
  drop_other_epolls(live, target, kept);
  return kept;
}

// Events that a program had not read at the checkpoint can't be put back; they are there still if nobody read them.
void report_lost_events(const TreeImage& live, const TreeImage& target, const Slots& target_slots,
                        const KeptDescriptions& kept, DescriptorPlan& plan) {
  for (const auto& [index, keys] : target_slots.by_description) {
    const auto* wanted = std::get_if<InotifyState>(&target.descriptions[index].state);
    if (wanted == nullptr || wanted->queued_bytes == 0) continue;
    const auto stays = kept.find(index);
    if (stays != kept.end() &&
        correction_of(live.descriptions[stays->second].state, target.descriptions[index].state) == Correction::kNone) {
      continue;
    }
    plan.unrestorable.push_back({pid_of(target, keys.front().first), "inotify",
                                 "descriptor " + std::to_string(keys.front().second) +
                                     ": events that it had not read at the checkpoint are lost"});
  }
}

}  // namespace

DescriptorPlan plan_descriptors(const TreeImage& live, const TreeImage& target, const std::set<int>& switched,
                                const std::set<SharedObjectId>& renewed) {
  DescriptorPlan plan;
  const Slots live_slots = index_slots(live, target);
  const Slots target_slots = index_slots(target, target);
  const std::set<std::uint32_t> renewed_sockets = sockets_to_renew(live, target, live_slots, target_slots, switched);
  const KeptDescriptions kept = find_kept(live, live_slots, target, target_slots,
                                          {switched, renewed, plan_terminals(live, target).make}, renewed_sockets);
  for (const auto& [description_index, keys] : target_slots.by_description) {
    const Description& wanted = target.descriptions[description_index];
    if (const auto stays = kept.find(description_index); stays != kept.end()) {
      const std::uint32_t present_index = stays->second;
      const Description& present = live.descriptions[present_index];
      const auto source = std::find_if(keys.begin(), keys.end(), [&](const SlotKey& key) {
        const auto slot = live_slots.by_key.find(key);
        return slot != live_slots.by_key.end() && slot->second->description == present_index;
      });
      if (present.offset != wanted.offset || present.status_flags != wanted.status_flags ||
          correction_of(present.state, wanted.state) == Correction::kInPlace) {
        plan.adjust.push_back({source->first, source->second, description_index});
      }
      for (const SlotKey& key : keys) {
        const bool wanted_flag = target_slots.by_key.at(key)->close_on_exec;
        const auto slot = live_slots.by_key.find(key);
        if (slot == live_slots.by_key.end() || slot->second->description != present_index) {
          plan.share.push_back({source->first, source->second, key.first, key.second, wanted_flag});
        } else if (slot->second->close_on_exec != wanted_flag) {
          plan.flags.push_back({key.first, key.second, wanted_flag});
        }
      }
      continue;
    }
    const bool can_make = (!wanted.deleted || wanted.is_deleted_file()) &&
                          (wanted.kind == DescriptionKind::kFile || wanted.kind == DescriptionKind::kDevice ||
                           wanted.kind == DescriptionKind::kPipe || wanted.kind == DescriptionKind::kBoundary ||
                           wanted.kind == DescriptionKind::kObject || wanted.kind == DescriptionKind::kMemory ||
                           wanted.kind == DescriptionKind::kTerminal || renewed_sockets.contains(description_index));
    if (!can_make) {
      for (const SlotKey& key : keys) {
        plan.unrestorable.push_back(
            {pid_of(target, key.first), wanted.deleted ? "deleted-file" : wanted.type,
             "descriptor " + std::to_string(key.second) + " was closed or replaced since the checkpoint"});
        if (live_slots.by_key.contains(key)) plan.close.push_back({key.first, key.second});
      }
      continue;
    }
    plan.make.push_back(description_index);
    for (const SlotKey& key : keys) {
      plan.install.push_back({key.first, key.second, target_slots.by_key.at(key)->close_on_exec, description_index});
    }
  }
  for (const auto& [key, slot] : live_slots.by_key) {
    if (!target_slots.by_key.contains(key)) plan.close.push_back({key.first, key.second});
  }
  plan_epolls(live, target, target_slots, kept, plan);
  report_lost_events(live, target, target_slots, kept, plan);
  return plan;
}

}  // namespace deltabox
