#include "reconcile/tree_descriptors.h"

#include <fcntl.h>

#include <algorithm>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "reconcile/descriptor_io.h"
#include "reconcile/fifo_io.h"
#include "reconcile/kinds/epoll.h"
#include "reconcile/lock_io.h"
#include "reconcile/plan.h"
#include "reconcile/socket_io.h"
#include "sys/files.h"
#include "sys/processes.h"

namespace deltabox {

namespace {

Result<UniqueFd> make_description(ApplyContext& context, const Description& wanted, HeldProcess& holder,
                                  RevivedFiles& revived, std::vector<std::string>& lost, ApplyOutcome& outcome) {
  if (wanted.kind == DescriptionKind::kTerminal) return context.terminals->open(wanted, holder);
  if (wanted.kind != DescriptionKind::kBoundary) {
    return open_description(wanted, context.m1_root, context.self_fd_dir, revived, lost);
  }
  Result<UniqueFd> opened = context.streams->open(wanted.inode);
  if (opened.ok()) return opened;
  // A slot that is closed would be given to the next file that is opened.
  outcome.not_restored.push_back({0, "stream", "a stream that leads out: " + opened.error().describe()});
  return sys::open_in_root(context.m1_root, "/dev/null", O_RDWR);
}

// Every description that is made is for a slot at least.
const SlotInstall& first_install_of(const DescriptorPlan& plan, std::uint32_t made) {
  return *std::find_if(plan.install.begin(), plan.install.end(),
                       [&](const SlotInstall& one) { return one.description == made; });
}

// What of an object could not be had again, said of the first slot that it is for.
void report_lost(const ApplyContext& context, const TreeImage& target, const DescriptorPlan& plan, std::uint32_t made,
                 const std::vector<std::string>& lost, ApplyOutcome& outcome) {
  const SlotInstall& install = first_install_of(plan, made);
  for (const std::string& part : lost) {
    outcome.not_restored.push_back({context.capture->find(install.process)->live->inside.value,
                                    target.descriptions[made].type,
                                    "descriptor " + std::to_string(install.fd) + ": " + part});
  }
}

// Tasks that live on would find an end of file where one was told to them since, and none where it had been before.
Result<void> settle_inputs(ApplyContext& context, const TreeImage& target) {
  std::set<std::uint32_t> settled;
  for (const ProcessImage& process : target.processes) {
    for (const DescriptorSlot& slot : process.descriptors) {
      const Description& description = target.descriptions[slot.description];
      if (description.kind != DescriptionKind::kBoundary || !settled.insert(slot.description).second) continue;
      const HeldProcess* held = context.capture->find(process.incarnation);
      TRY(context.streams->settle_input(description.inode, target.commands,
                                        [&] { return sys::pidfd_get_fd(held->live->pidfd.get(), slot.fd); }));
    }
  }
  return {};
}

}  // namespace

Result<void> apply_descriptors(ApplyContext& context, const TreeImage& live, const TreeImage& target,
                               const std::set<int>& switched, const std::set<SharedObjectId>& renewed,
                               RevivedFiles& revived, ApplyOutcome& outcome) {
  DescriptorPlan plan = plan_descriptors(live, target, switched, renewed);
  outcome.not_restored.insert(outcome.not_restored.end(), plan.unrestorable.begin(), plan.unrestorable.end());
  std::map<std::uint32_t, UniqueFd> made;
  std::vector<UniqueFd> shared;  // closed again before anybody runs
  const auto report_unmade = [&](std::uint32_t index, const Error& reason) {
    for (const SlotInstall& install : plan.install) {
      if (install.description != index) continue;
      const HeldProcess* held = context.capture->find(install.process);
      outcome.not_restored.push_back({held->live->inside.value, target.descriptions[index].type,
                                      "descriptor " + std::to_string(install.fd) + ": " + reason.describe()});
      plan.close.push_back({install.process, install.fd});
    }
  };
  std::vector<UnmadeFifo> unmade;
  const std::set<const PipeHandle*> filled =
      make_fifos(target, plan.make, switched, context.m1_root, context.self_fd_dir, made, unmade);
  for (const UnmadeFifo& fifo : unmade) {
    for (const std::uint32_t index : fifo.descriptions) report_unmade(index, fifo.reason);
  }
  open_files(target, plan.make, context.m1_root, made);
  for (const std::uint32_t index : plan.make) {
    if (made.contains(index) || target.descriptions[index].is_fifo()) continue;
    if (target.descriptions[index].socket) continue;  // once names and ports are free
    std::vector<std::string> lost;
    HeldProcess& holder = *context.capture->find(first_install_of(plan, index).process);
    Result<UniqueFd> opened = make_description(context, target.descriptions[index], holder, revived, lost, outcome);
    report_lost(context, target, plan, index, lost, outcome);
    if (opened.ok()) {
      made[index] = opened.release_value();
      continue;
    }
    report_unmade(index, opened.error());
  }
  // Sockets go before others get their names and ports, also where something else takes their slot.
  const auto has_socket = [&](Incarnation process, int fd) {
    const Description* present = live.description_at(*live.find(process), fd);
    return present != nullptr && present->socket;
  };
  for (const SlotInstall& install : plan.install) {
    if (target.descriptions[install.description].socket || has_socket(install.process, install.fd)) {
      plan.close.push_back({install.process, install.fd});
    }
  }
  for (const SlotShare& share : plan.share) {
    if (has_socket(share.process, share.fd)) plan.close.push_back({share.process, share.fd});
  }
  std::map<Incarnation, std::vector<int>> closes;
  for (const SlotClose& close : plan.close) {
    const ProcessImage* process = live.find(close.process);
    const bool is_open = std::any_of(process->descriptors.begin(), process->descriptors.end(),
                                     [&](const DescriptorSlot& slot) { return slot.fd == close.fd; });
    if (is_open) closes[close.process].push_back(close.fd);
  }
  for (const auto& [incarnation, slots] : closes) TRY(close_descriptors(*context.capture->find(incarnation), slots));
  TRY(make_sockets(context, plan, target, made, outcome));
  std::map<Incarnation, std::vector<Install>> installs;
  for (const SlotShare& share : plan.share) {
    const HeldProcess* from = context.capture->find(share.from_process);
    UniqueFd shared_fd = TRY(sys::pidfd_get_fd(from->live->pidfd.get(), share.from_fd));
    installs[share.process].push_back({shared_fd.get(), share.fd, share.close_on_exec});
    shared.push_back(std::move(shared_fd));
  }
  for (const SlotInstall& install : plan.install) {
    const auto fd = made.find(install.description);
    if (fd != made.end()) installs[install.process].push_back({fd->second.get(), install.fd, install.close_on_exec});
  }
  std::vector<ProcessInstalls> processes;
  for (auto& [incarnation, list] : installs) {
    processes.push_back({context.capture->find(incarnation), std::move(list)});
  }
  TRY(install_descriptors(processes));
  for (const SlotFlag& flag : plan.flags)
    TRY(set_descriptor_flag(*context.capture->find(flag.process), flag.fd, flag.close_on_exec));
  for (const DescriptionAdjust& adjust : plan.adjust) {
    const HeldProcess* held = context.capture->find(adjust.process);
    const Description& wanted = target.descriptions[adjust.description];
    const Result<void> adjusted = adjust_description(wanted, held->live->pidfd.get(), adjust.fd);
    if (!adjusted.ok()) {
      outcome.not_restored.push_back({held->live->inside.value, wanted.type,
                                      "descriptor " + std::to_string(adjust.fd) + ": " + adjusted.error().describe()});
    }
  }
  TRY(settle_inputs(context, target));
  TRY(correct_sockets(context, plan, live, target, outcome));
  TRY(change_epolls(*context.capture, plan.epolls, outcome.not_restored));
  // Whatever was in their way has been closed.
  for (const auto& [index, file] : made) {
    const Result<void> locked = take_description_locks(file.get(), target.descriptions[index].locks);
    if (!locked.ok()) {
      outcome.not_restored.push_back({0, "lock", target.descriptions[index].path + ": " + locked.error().describe()});
    }
  }
  for (const PipeContents& wanted : target.pipes) {
    if (filled.contains(wanted.pipe.get())) continue;
    const Result<void> refilled = correct_pipe(live, target, wanted, context.m1_root, context.self_fd_dir);
    if (!refilled.ok()) outcome.not_restored.push_back({0, "pipe", "its contents: " + refilled.error().describe()});
  }
  return {};
}

}  // namespace deltabox
