#include "restore/restore.h"

#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <map>
#include <optional>
#include <string>

#include "deltacr/describe.h"
#include "restore/birth.h"
#include "restore/program.h"
#include "restore/users.h"
#include "sys/processes.h"
#include "tracee/proc_files.h"

namespace deltabox {

namespace {

using parasite::Call;
using parasite::make_call;

constexpr InsidePid kInit{1};
constexpr std::uint64_t kThreadFlags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;

class Restorer {
 public:
  Restorer(ApplyContext& context, InitClient& init, const TreeImage& target, ApplyOutcome& outcome)
      : context_(context), init_(init), target_(target), outcome_(outcome) {}

  Result<TreeImage> run(const TreePlan& plan, const TreeImage& live) {
    std::set<Incarnation> made;
    find_highest_number(plan);
    const InsidePid last = TRY(init_.choose_next_pid(beyond_all_));
    for (const Birth& birth : plan.births) {
      TRY(give_birth(birth));
      if (birth.role == Birth::Role::kProcess) made.insert(birth.process);
    }
    for (const Incarnation incarnation : plan.reload) {
      TRY(reload(*target_.find(incarnation)));
      made.insert(incarnation);
    }
    TRY(set_groups(plan, live, made));
    TRY(end_temporary(plan));
    TreeImage now = live;
    std::erase_if(now.processes, [&](const ProcessImage& process) {
      return made.contains(process.incarnation) || target_.find(process.incarnation) == nullptr;
    });
    forget_what_ended(now);
    for (const Incarnation incarnation : made) {
      HeldProcess& held = *context_.capture->find(incarnation);
      const ProcessImage& wanted = *target_.find(incarnation);
      for (const ThreadImage& thread : wanted.threads) {
        if (thread.inside != wanted.pid) TRY(make_thread(held, thread.inside));
      }
      now.processes.push_back(TRY(context_.capture->capture_reborn(held)));
      TRY(assume_users(held, now.processes.back(), wanted));
      outcome_.restored_processes.push_back(wanted.pid);
    }
    for (const TreePlan::ThreadToMake& thread : plan.make_threads) {
      HeldProcess& held = *context_.capture->find(thread.process);
      TRY(make_thread(held, thread.tid));
      const auto process = std::find_if(now.processes.begin(), now.processes.end(),
                                        [&](const ProcessImage& image) { return image.incarnation == thread.process; });
      process->threads.push_back(
          TRY(describe_thread(*held.live, context_.freeze->timed_calls(), held.frozen->threads.back())));
      ++outcome_.restored_threads;
    }
    // Numbers go on where they were: one that was given since the checkpoint is not given to somebody else at once.
    TRY(init_.choose_next_pid(InsidePid{std::max(last.value, beyond_all_.value - 1) + 1}));
    return now;
  }

 private:
  // A task that only stands in, or a zombie to be: it has no parasite, and its calls go through its vdso.
  struct Bare {
    HostTid tid;
    parasite::Session session;
    RemoteAddress instruction;
  };

  // With the last process that held a pipe what was in it is gone, and so is shared memory; what is left of that may
  // have no descriptor any more.
  static void forget_what_ended(TreeImage& now) {
    now.pipes.clear();
    const auto in_any_process = [&](const auto& has) {
      return std::any_of(now.processes.begin(), now.processes.end(), has);
    };
    for (SharedMemory& memory : now.shared_memory) {
      memory.has_descriptor = in_any_process([&](const ProcessImage& process) {
        return std::any_of(process.descriptors.begin(), process.descriptors.end(), [&](const DescriptorSlot& slot) {
          return now.descriptions[slot.description].shared_object == memory.id;
        });
      });
    }
    std::erase_if(now.shared_memory, [&](const SharedMemory& memory) {
      // A segment of System V lives on when nobody has it attached.
      return !memory.system_v && !memory.has_descriptor && !in_any_process([&](const ProcessImage& process) {
        return std::any_of(process.mappings->begin(), process.mappings->end(),
                           [&](const Mapping& mapping) { return mapping.shared_object == memory.id; });
      });
    });
  }

  Result<Bare> bare(HostTid tid) {
    return Bare{tid, TRY(parasite::Session::begin(tid)), TRY(syscall_instruction(context_.proc_fd, tid))};
  }

  void find_highest_number(const TreePlan& plan) {
    int highest = 1;
    for (const Birth& birth : plan.births) highest = std::max(highest, birth.pid.value);
    for (const ProcessImage& process : target_.processes) {
      highest = std::max({highest, process.session, process.process_group});
      for (const ThreadImage& thread : process.threads) highest = std::max(highest, thread.inside.value);
    }
    beyond_all_ = InsidePid{highest + 1};
  }

  HeldProcess* held_by_pid(InsidePid pid) {
    const ProcessImage* image = target_.find_by_pid(pid);
    return image != nullptr ? context_.capture->find(image->incarnation) : nullptr;
  }

  Result<Maker> maker_of(InsidePid pid) {
    if (HeldProcess* held = held_by_pid(pid)) return Maker{&held->session, held->live->site.vdso_syscall};
    const auto found = temporary_.find(pid);
    if (found == temporary_.end()) return make_error(Code::kInternal, "no process is there to make others");
    return Maker{&found->second.session, found->second.instruction};
  }

  Result<HostTid> make(const Birth& birth) {
    if (birth.maker == kInit) return make_child_of_init(context_.proc_fd, init_, birth.pid);
    const Maker maker = TRY(maker_of(birth.maker));
    if (!birth.orphan) return make_task(context_.proc_fd, init_, maker, birth.pid, SIGCHLD);
    TRY(init_.choose_next_pid(beyond_all_));  // it must not sit on a number that is still needed
    const HostTid between = TRY(maker.session->give_birth(maker.instruction, make_call(SYS_clone, SIGCHLD)));
    Bare middle = TRY(bare(between));
    const InsidePid between_inside = TRY(task_status(context_.proc_fd, between)).inside;
    Result<HostTid> made =
        make_task(context_.proc_fd, init_, Maker{&middle.session, middle.instruction}, birth.pid, SIGCHLD);
    middle.session.abandon();
    end_task(between);
    TRY(reap(maker, between_inside));
    return made;
  }

  Result<void> give_birth(const Birth& birth) {
    const HostTid tid = TRY(make(birth));
    Bare process = TRY(bare(tid));
    if (birth.new_session && birth.maker != kInit) {
      TRY(checked(process, make_call(SYS_setsid), "setsid"));
    }
    if (birth.role != Birth::Role::kProcess) {
      TRY(checked(process, make_call(SYS_close_range, 0, ~0u, 0), "close_range"));
      if (birth.role == Birth::Role::kStandIn && !birth.new_session) {
        TRY(checked(process, make_call(SYS_setpgid, 0, 0), "setpgid"));
      }
      temporary_.emplace(birth.pid, std::move(process));
      return {};
    }
    const ProcessImage& wanted = *target_.find(birth.process);
    const RemoteAddress scratch = TRY(scratch_page(process));
    TRY(execute(process.session, process.instruction, scratch, wanted, outcome_.not_restored));
    return hold(context_.freeze->adopt_process(tid, HostTid{0}), wanted);
  }

  Result<void> reload(const ProcessImage& wanted) {
    HeldProcess& held = *context_.capture->find(wanted.incarnation);
    FrozenProcess& frozen = *held.frozen;
    const RemoteAddress scratch = held.live->site.mapping + parasite::kBufferOffset;
    TRY(execute(held.session, held.live->site.vdso_syscall, scratch, wanted, outcome_.not_restored));
    return hold(frozen, wanted);
  }

  Result<void> hold(FrozenProcess& frozen, const ProcessImage& wanted) {
    HeldProcess& held = *TRY(context_.capture->hold_reborn(frozen, wanted));
    TRY(clear(held, wanted, outcome_.not_restored));
    return context_.terminals->take_controlling(held, outcome_.not_restored);
  }

  // Its memory is its maker's, which may be empty.
  static Result<RemoteAddress> scratch_page(Bare& process) {
    constexpr std::uint64_t kSizeBytes = 2 * kPageSize;  // a path and two pointers
    const std::int64_t address = TRY(process.session.single_call(
        process.instruction, make_call(SYS_mmap, 0, kSizeBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                                       static_cast<std::uint64_t>(-1), 0)));
    if (address < 0 && address > -4096) return os_error_from(static_cast<int>(-address), "mmap in a tracee");
    return RemoteAddress{static_cast<std::uint64_t>(address)};
  }

  Result<void> checked(Bare& process, const Call& call, const char* name) {
    const std::int64_t result = TRY(process.session.single_call(process.instruction, call));
    return result < 0 ? Result<void>(os_error_from(static_cast<int>(-result), name)) : Result<void>();
  }

  Result<void> make_thread(HeldProcess& held, InsidePid tid) {
    FrozenThread thread;
    thread.tid =
        TRY(make_task(context_.proc_fd, init_, Maker{&held.session, held.live->site.vdso_syscall}, tid, kThreadFlags));
    thread.stopped = true;
    held.frozen->threads.push_back(thread);
    return {};
  }

  Result<void> set_group(HeldProcess& held, std::int32_t group) {
    Call call = make_call(SYS_setpgid, 0, static_cast<std::uint64_t>(group));
    TRY(held.session.run(held.live->site, {&call, 1}));
    if (call.result < 0) {
      outcome_.not_restored.push_back({held.live->inside.value, "process-group",
                                       os_error_from(static_cast<int>(-call.result), "setpgid").describe()});
    }
    return {};
  }

  // Who gives a group its number, then those that join it, then those that gave a number and belong elsewhere: a
  // leader may have left. A zombie may be each of these.
  Result<void> set_groups(const TreePlan& plan, const TreeImage& live, const std::set<Incarnation>& made) {
    struct Member {
      InsidePid pid;
      std::int32_t group = 0;
      const ProcessImage* process = nullptr;  // null: a zombie
      bool has_it = false;
    };
    std::vector<Member> members;
    for (const ProcessImage& process : target_.processes) {
      if (process.session == process.pid.value) continue;
      const ProcessImage* present = made.contains(process.incarnation) ? nullptr : live.find(process.incarnation);
      const bool has_it = present != nullptr && present->process_group == process.process_group;
      members.push_back({process.pid, process.process_group, &process, has_it});
    }
    for (const Birth& birth : plan.births) {
      if (birth.role != Birth::Role::kZombie || birth.new_session) continue;
      members.push_back({birth.pid, birth.process_group, nullptr, false});
    }
    std::set<std::int32_t> joined;
    for (const Member& member : members) {
      if (!member.has_it) joined.insert(member.group);
    }
    const auto set = [&](const Member& member, std::int32_t group) {
      return member.process != nullptr ? set_group(*context_.capture->find(member.process->incarnation), group)
                                       : set_group_of_zombie(member.pid, group);
    };
    const auto gives_number = [&](const Member& member) {
      return member.group != member.pid.value && joined.contains(member.pid.value);
    };
    for (const Member& member : members) {
      const bool leads = member.group == member.pid.value && !member.has_it;
      if (leads || gives_number(member)) TRY(set(member, member.pid.value));
    }
    for (const Member& member : members) {
      if (member.group != member.pid.value && !member.has_it && !gives_number(member)) TRY(set(member, member.group));
    }
    for (const Member& member : members) {
      if (gives_number(member)) TRY(set(member, member.group));
    }
    return {};
  }

  Result<void> set_group_of_zombie(InsidePid pid, std::int32_t group) {
    return checked(temporary_.at(pid), make_call(SYS_setpgid, 0, static_cast<std::uint64_t>(group)), "setpgid");
  }

  // Children before their parents.
  Result<void> end_temporary(const TreePlan& plan) {
    for (auto birth = plan.births.rbegin(); birth != plan.births.rend(); ++birth) {
      const auto found = temporary_.find(birth->pid);
      if (found == temporary_.end()) continue;
      if (birth->role == Birth::Role::kZombie) {
        TRY(end_as_zombie(found->second, birth->exit_status));
      } else {
        found->second.session.abandon();
        end_task(found->second.tid);
        if (birth->maker != kInit) TRY(reap(TRY(maker_of(birth->maker)), birth->pid));
      }
      temporary_.erase(found);
    }
    return {};
  }

  static Result<void> end_as_zombie(Bare& process, int exit_status) {
    if (WIFSIGNALED(exit_status)) return end_by_signal(process, WTERMSIG(exit_status));
    const Result<std::int64_t> left = process.session.single_call(
        process.instruction, make_call(SYS_exit_group, static_cast<std::uint64_t>(WEXITSTATUS(exit_status))));
    process.session.abandon();
    if (left.ok() || left.error().code != Code::kTraceeGone) {
      return make_error(Code::kInternal, "a process that should end as a zombie lives");
    }
    return {};
  }

  // The handlers that it has are its parent's.
  static Result<void> end_by_signal(Bare& process, int signal) {
    const KernelSigaction by_default{};
    const RemoteAddress scratch = TRY(scratch_page(process));
    TRY(sys::write_remote(process.tid, scratch, &by_default, sizeof by_default));
    (void)TRY(process.session.single_call(
        process.instruction, make_call(SYS_rt_sigaction, static_cast<std::uint64_t>(signal), scratch.value, 0, 8)));
    process.session.abandon();
    if (signal == SIGKILL) {
      end_task(process.tid);
      return {};
    }
    TRY(ptrace::set_signal_mask(process.tid, ~(ptrace::SignalMask{1} << (signal - 1))));
    ::kill(process.tid.value, signal);
    TRY(ptrace::resume(process.tid));
    for (;;) {
      const ptrace::Stop stop = TRY(ptrace::wait_for_stop(process.tid));
      if (stop.kind == ptrace::Stop::Kind::kGone) return {};
      TRY(ptrace::resume(process.tid, stop.kind == ptrace::Stop::Kind::kSignal ? stop.signal : 0));
    }
  }

  ApplyContext& context_;
  InitClient& init_;
  const TreeImage& target_;
  ApplyOutcome& outcome_;
  std::map<InsidePid, Bare> temporary_;
  InsidePid beyond_all_;
};

}  // namespace

Result<TreeImage> bring_back(ApplyContext& context, InitClient& init, const TreePlan& plan, const TreeImage& live,
                             const TreeImage& target, ApplyOutcome& outcome) {
  return Restorer(context, init, target, outcome).run(plan, live);
}

}  // namespace deltabox
