#include <algorithm>
#include <map>
#include <optional>

#include "reconcile/plan.h"
#include "reconcile/plan_one_way.h"

namespace deltabox {

namespace {

constexpr InsidePid kInit{1};

// What no call changes back.
bool is_another_by_now(const ProcessImage& present, const ProcessImage& wanted) {
  return present.session != wanted.session || present.parent != wanted.parent || !can_be_what_it_was(present, wanted);
}

// Numbers of sessions and groups stay taken while they have members.
bool keeps_number_of(const ProcessImage& present, InsidePid pid) {
  return present.pid != pid && (present.session == pid.value || present.process_group == pid.value);
}

// At once, so that there is none to be made.
bool is_collected_by_init(const TreeImage& target, const ZombieImage& zombie) {
  return target.find_by_pid(zombie.parent) == nullptr;
}

// It had left the group that has its number, and somebody has to join that group again, which is gone by now: only
// while it lives can it lead it.
bool has_to_lead(const TreeImage& live, const TreeImage& target, const std::set<Incarnation>& make,
                 const ZombieImage& zombie) {
  const std::int32_t group = zombie.pid.value;
  if (zombie.process_group == group) return false;
  bool is_joined = false;
  for (const ProcessImage& wanted : target.processes) {
    const ProcessImage* present = make.contains(wanted.incarnation) ? nullptr : live.find(wanted.incarnation);
    if (present != nullptr && present->process_group == group) return false;
    is_joined = is_joined || wanted.process_group == group;
  }
  return is_joined;
}

// Of a process or zombie what its birth depends on.
struct Node {
  Birth::Role role = Birth::Role::kProcess;
  Incarnation process = 0;
  InsidePid pid;
  InsidePid parent;
  std::int32_t session = 0;
  std::int32_t process_group = 0;
  int exit_status = 0;
};

class BirthPlanner {
 public:
  BirthPlanner(const TreeImage& live, const TreeImage& target, const std::set<Incarnation>& make)
      : live_(live), target_(target) {
    for (const ProcessImage& process : target.processes) {
      Node node{Birth::Role::kProcess,
                process.incarnation,
                process.pid,
                process.parent,
                process.session,
                process.process_group,
                0};
      if (make.contains(process.incarnation)) {
        waiting_.push_back(node);
      } else {
        // While it is what it is in the live state, its group has its number.
        node.process_group = live.find(process.incarnation)->process_group;
        groups_.insert(node.process_group);
        ready_.push_back(node);
        wanted_groups_[process.process_group] = process.pid;
      }
    }
    for (const ZombieImage& zombie : target.zombies) {
      if (is_collected_by_init(target, zombie)) continue;
      if (zombie_stays(live, target, make, zombie)) {
        groups_.insert(zombie.process_group);
        continue;
      }
      waiting_.push_back({Birth::Role::kZombie, 0, zombie.pid, zombie.parent, zombie.session, zombie.process_group,
                          zombie.exit_status});
    }
  }

  std::vector<Birth> run(std::vector<Notice>& dead) {
    while (!waiting_.empty()) {
      if (make_possible() || stand_in_for_leader()) continue;
      for (const Node& node : waiting_) {
        dead.push_back({node.pid.value, "process", "it ended since the checkpoint, and its parent can't make it"});
      }
      return {};
    }
    stand_in_for_groups();
    return std::move(births_);
  }

 private:
  const Node* ready(InsidePid pid) const {
    const auto found = std::find_if(ready_.begin(), ready_.end(), [&](const Node& node) { return node.pid == pid; });
    return found != ready_.end() ? &*found : nullptr;
  }
  // A process of the session that can make others; one whose child can become `child`, where there is such a one.
  InsidePid member_of(std::int32_t session, Incarnation child = 0) const {
    const ProcessImage* wanted = target_.find(child);
    InsidePid any{0};
    for (const Node& node : ready_) {
      if (node.session != session) continue;
      const ProcessImage* present = live_.find(node.process);
      if (wanted == nullptr || present == nullptr || can_be_child_of(*present, *wanted)) return node.pid;
      if (any.value == 0) any = node.pid;
    }
    return any;
  }

  std::optional<Birth> birth_of(const Node& node) const {
    Birth birth{node.role,          node.process,    node.pid, node.parent, false, node.session == node.pid.value,
                node.process_group, node.exit_status};
    const Node* parent = ready(node.parent);
    if (birth.new_session) {
      if (node.parent == kInit || parent != nullptr) return birth;
      return std::nullopt;
    }
    if (parent != nullptr && parent->session == node.session) return birth;
    if (node.parent != kInit) return std::nullopt;
    // Its parent ended before the checkpoint, and init took it over.
    birth.maker = member_of(node.session, node.process);
    birth.orphan = true;
    if (birth.maker.value == 0) return std::nullopt;
    return birth;
  }

  void add(const Node& node, const Birth& birth) {
    births_.push_back(birth);
    ready_.push_back(node);
    wanted_groups_[node.process_group] = node.pid;
    if (birth.new_session || node.process_group == node.pid.value) groups_.insert(node.pid.value);
  }

  bool make_possible() {
    for (auto node = waiting_.begin(); node != waiting_.end(); ++node) {
      const std::optional<Birth> birth = birth_of(*node);
      if (!birth) continue;
      add(*node, *birth);
      waiting_.erase(node);
      return true;
    }
    return false;
  }

  // The leader of a session may have ended long before the checkpoint.
  bool stand_in_for_leader() {
    for (const Node& node : waiting_) {
      const InsidePid leader{node.session};
      const bool will_be_made =
          std::any_of(waiting_.begin(), waiting_.end(), [&](const Node& other) { return other.pid == leader; });
      if (node.parent != kInit || leader.value <= 1 || will_be_made || member_of(leader.value).value != 0) continue;
      Node stand_in{Birth::Role::kStandIn, 0, leader, kInit, leader.value, leader.value, 0};
      add(stand_in, {stand_in.role, 0, leader, kInit, false, true, leader.value, 0});
      return true;
    }
    return false;
  }

  // So may the leader of a group, whose number then lives on in its members. One that is there, in whatever group,
  // leads it for a moment.
  void stand_in_for_groups() {
    for (const auto& [group, member] : wanted_groups_) {
      if (group <= 1 || groups_.contains(group) || ready(InsidePid{group}) != nullptr) continue;
      births_.push_back({Birth::Role::kStandIn, 0, InsidePid{group}, member, false, false, group, 0});
    }
  }

  const TreeImage& live_;
  const TreeImage& target_;
  std::vector<Node> ready_;
  std::vector<Node> waiting_;
  std::vector<Birth> births_;
  std::set<std::int32_t> groups_;                    // whose number is taken by a leader or a member
  std::map<std::int32_t, InsidePid> wanted_groups_;  // with one of those that want it
};

// The process that stays and from which this one comes, directly or through others that are made, but can't become what
// it was: who dropped rights since can't make it again. Null: there is none.
const ProcessImage* unable_origin(const TreeImage& live, const TreeImage& target, const std::set<Incarnation>& make,
                                  const ProcessImage& child) {
  const auto is_able = [&](const ProcessImage& origin) {
    return can_be_child_of(*live.find(origin.incarnation), child);
  };
  const ProcessImage* orphan = &child;
  for (const ProcessImage* parent = target.find_by_pid(child.parent); parent != nullptr;
       parent = target.find_by_pid(parent->parent)) {
    if (!make.contains(parent->incarnation)) return is_able(*parent) ? nullptr : parent;
    orphan = parent;
  }
  if (orphan->session == orphan->pid.value) return nullptr;  // init makes it
  const ProcessImage* unable = nullptr;
  for (const ProcessImage& member : target.processes) {
    if (member.session != orphan->session || make.contains(member.incarnation)) continue;
    if (is_able(member)) return nullptr;
    if (unable == nullptr || member.pid.value == member.session) unable = &member;
  }
  if (unable != nullptr) return unable;
  // Its session's leader is to be a zombie again, which makes it before that.
  for (const ZombieImage& zombie : target.zombies) {
    const ProcessImage* parent = zombie.pid.value == orphan->session ? target.find_by_pid(zombie.parent) : nullptr;
    if (parent != nullptr && !make.contains(parent->incarnation) && !is_able(*parent)) return parent;
  }
  return nullptr;
}

}  // namespace

bool zombie_stays(const TreeImage& live, const TreeImage& target, const std::set<Incarnation>& make,
                  const ZombieImage& zombie) {
  const ProcessImage* parent = target.find_by_pid(zombie.parent);
  return std::find(live.zombies.begin(), live.zombies.end(), zombie) != live.zombies.end() &&
         std::find(target.zombies.begin(), target.zombies.end(), zombie) != target.zombies.end() &&
         (parent == nullptr || !make.contains(parent->incarnation)) && !has_to_lead(live, target, make, zombie);
}

std::set<Incarnation> processes_to_make(const TreeImage& live, const TreeImage& target) {
  std::set<Incarnation> make;
  std::vector<InsidePid> numbers;  // of those to be made
  const auto add = [&](const ProcessImage& process) {
    make.insert(process.incarnation);
    numbers.push_back(process.pid);
  };
  for (const ProcessImage& wanted : target.processes) {
    const ProcessImage* present = live.find(wanted.incarnation);
    if (present == nullptr || is_another_by_now(*present, wanted)) add(wanted);
  }
  const auto add_holders_of = [&](InsidePid pid) {
    for (const ProcessImage& wanted : target.processes) {
      if (make.contains(wanted.incarnation)) continue;
      if (wanted.parent == pid || keeps_number_of(*live.find(wanted.incarnation), pid)) add(wanted);
    }
  };
  // Until nothing changes: with each that is made, others come from somebody else.
  std::size_t known = 0;
  do {
    known = numbers.size();
    for (const ZombieImage& zombie : target.zombies) {
      if (!is_collected_by_init(target, zombie) && !zombie_stays(live, target, make, zombie))
        add_holders_of(zombie.pid);
    }
    for (std::size_t index = 0; index < known; ++index) {
      const InsidePid pid = numbers[index];
      if (const ProcessImage* unable = unable_origin(live, target, make, *target.find_by_pid(pid))) add(*unable);
      add_holders_of(pid);
    }
  } while (known != numbers.size());
  return make;
}

std::vector<Birth> plan_births(const TreeImage& live, const TreeImage& target, const std::set<Incarnation>& make,
                               std::vector<Notice>& dead) {
  return BirthPlanner(live, target, make).run(dead);
}

}  // namespace deltabox
