#include "reconcile/terminal_io.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <termios.h>
#include <unistd.h>

#include <string>
#include <utility>

#include "deltacr/terminal_bytes.h"
#include "reconcile/descriptor_io.h"
#include "reconcile/remote_calls.h"
#include "sys/files.h"
#include "sys/processes.h"

namespace deltabox {

namespace {

using parasite::Call;
using parasite::make_call;

const dev_t kMasterDevice = makedev(5, 2);
const dev_t kOwnTerminal = makedev(5, 0);  // /dev/tty
constexpr unsigned kSlaveMajor = 136;
constexpr int kMostTerminals = 256;  // that are opened on the way to a number
// A number is free some time after its last end was closed: the kernel has that done by a work queue.
constexpr int kFreedLooks = 50;
constexpr int kBetweenLooks_us = 2000;

std::string slave_path(int number) { return "/dev/pts/" + std::to_string(number); }

int number_of(int master) {
  int number = -1;
  return ::ioctl(master, TIOCGPTN, &number) == 0 ? number : -1;
}

Result<std::int64_t> call(HeldProcess& held, Call one) {
  TRY(held.session.run(held.live->site, {&one, 1}));
  return one.result;
}

// Opens a terminal as the process, lets it act, and closes it again. The result of the act, or why it could not be
// opened.
Result<std::int64_t> on_terminal(HeldProcess& held, const std::string& path, int flags, unsigned long request,
                                 std::uint64_t argument) {
  // Behind what the request may point to.
  constexpr std::size_t kPathOffset = 64;
  TRY(held.session.write_buffer(held.live->site, kPathOffset, path.c_str(), path.size() + 1));
  const std::int64_t fd =
      TRY(call(held, make_call(SYS_openat, static_cast<std::uint64_t>(AT_FDCWD), buffer_at(held, kPathOffset),
                               static_cast<std::uint64_t>(flags | O_CLOEXEC))));
  if (fd < 0) return fd;
  Call calls[] = {make_call(SYS_ioctl, static_cast<std::uint64_t>(fd), request, argument),
                  make_call(SYS_close, static_cast<std::uint64_t>(fd))};
  TRY(held.session.run(held.live->site, calls));
  return calls[0].result;
}

// Something that is in nobody's way takes the slot. Where the process may open nothing more, it stays as it is.
Result<void> occupy(HeldProcess& held, int slot) {
  const std::int64_t fd = TRY(call(held, make_call(SYS_eventfd2, 0, 0)));
  if (fd < 0) return {};
  Call calls[] = {make_call(SYS_dup3, static_cast<std::uint64_t>(fd), static_cast<std::uint64_t>(slot), 0),
                  make_call(SYS_close, static_cast<std::uint64_t>(fd))};
  return held.session.run(held.live->site, calls);
}

// Not known where nobody had the slave end open: what was written to it waits for the next who has. And what was there
// when lines began or ended to count is a line by now, or none.
bool has_input_of(const TerminalImage* present, const TerminalImage& wanted) {
  if (present == nullptr || !present->has_slave || present->input != wanted.input) return false;
  const tcflag_t differing = present->modes.c_lflag ^ wanted.modes.c_lflag;
  return wanted.input.empty() || (differing & static_cast<tcflag_t>(ICANON)) == 0;
}

Notice refused(const HeldProcess& held, const std::string& what, std::int64_t result) {
  return {held.live->inside.value, "terminal",
          what + ": " + os_error_from(static_cast<int>(-result), "ioctl").describe()};
}

}  // namespace

TerminalRoom::TerminalRoom(int m1_root, TreeCapture& capture, const TerminalTable& commands,
                           const CommandTerminals& holders, const TreeImage& live, const TreeImage& target)
    : m1_root_(m1_root),
      capture_(capture),
      commands_(commands),
      holders_(holders),
      live_(live),
      target_(target),
      plan_(plan_terminals(live, target)) {}

// The kernel gives the lowest free number: those below are taken for a moment.
Result<UniqueFd> TerminalRoom::open_master(int number) {
  std::vector<UniqueFd> below;
  while (below.size() < kMostTerminals) {
    UniqueFd master = TRY(sys::open_in_root(m1_root_, "/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK));
    if (number_of(master.get()) >= number) return master;
    below.push_back(std::move(master));
  }
  return make_error(Code::kTooLarge, "its number is too high");
}

Result<TerminalRoom::Made> TerminalRoom::make_one(const TerminalImage& wanted) {
  Made made;
  made.master = TRY(open_master(wanted.number));
  for (int look = 0; number_of(made.master.get()) != wanted.number && look < kFreedLooks; ++look) {
    if (look > 0) ::usleep(kBetweenLooks_us);
    made.master.reset();
    holders_.give_up(wanted.number);
    capture_.terminals().forget(wanted.number);
    made.master = TRY(open_master(wanted.number));
  }
  made.number = number_of(made.master.get());
  const int unlocked = 0;
  if (::ioctl(made.master.get(), TIOCSPTLCK, &unlocked) != 0) return os_error("ioctl", "TIOCSPTLCK");
  if (wanted.has_slave || wanted.session != 0) {
    made.slave = TRY(open_slave_of(made.master.get(), O_RDWR));
    if (wanted.mode != 0 &&
        (::fchown(made.slave.get(), wanted.uid, wanted.gid) != 0 || ::fchmod(made.slave.get(), wanted.mode) != 0)) {
      return os_error("fchown", slave_path(made.number));
    }
  }
  if (wanted.command != 0) TRY(holders_.keep(wanted.command, TRY(sys::duplicate(made.master.get()))));
  return made;
}

// A slave end that outlived its master keeps the number. Its slots get what the target has there later on.
void TerminalRoom::free_numbers() {
  for (const ProcessImage& process : live_.processes) {
    HeldProcess* held = target_.find(process.incarnation) != nullptr ? capture_.find(process.incarnation) : nullptr;
    if (held == nullptr) continue;
    for (const DescriptorSlot& slot : process.descriptors) {
      const Description& present = live_.descriptions[slot.description];
      const bool is_left_over = present.kind == DescriptionKind::kTerminal && present.terminal < 0 &&
                                major(present.device) == kSlaveMajor &&
                                plan_.make.contains(static_cast<int>(minor(present.device)));
      if (is_left_over) (void)occupy(*held, slot.fd);
    }
  }
}

void TerminalRoom::make(std::vector<Notice>& not_restored) {
  free_numbers();
  for (const int number : plan_.make) {
    Result<Made> made = make_one(*target_.find_terminal(number));
    if (!made.ok()) {
      not_restored.push_back({0, "terminal", slave_path(number) + ": " + made.error().describe()});
      continue;
    }
    if (made.value().number != number) {
      not_restored.push_back(
          {0, "terminal", slave_path(number) + " is " + slave_path(made.value().number) + " now: its number is taken"});
    }
    made_[number] = made.release_value();
  }
}

int TerminalRoom::master_of(int number) const {
  if (const auto made = made_.find(number); made != made_.end()) return made->second.master.get();
  if (plan_.make.contains(number)) return -1;
  const TerminalImage* present = live_.find_terminal(number);
  if (present == nullptr || present->command == 0) return capture_.terminals().master(number);
  const auto held = commands_.find(present->command);
  return held != commands_.end() ? held->second : -1;
}

Result<UniqueFd> TerminalRoom::open(const Description& wanted, HeldProcess& holder) {
  const int flags = wanted.status_flags & (O_ACCMODE | kSettableFlags);
  UniqueFd end;
  if (wanted.terminal < 0) {
    // Nobody can write to it or read from it again: the other end of a new one is closed at once.
    const UniqueFd master = TRY(open_master(0));
    const int unlocked = 0;
    if (::ioctl(master.get(), TIOCSPTLCK, &unlocked) != 0) return os_error("ioctl", "TIOCSPTLCK");
    end = TRY(open_slave_of(master.get(), flags));
  } else {
    const int master = master_of(wanted.terminal);
    if (master < 0) return make_error(Code::kInternal, slave_path(wanted.terminal) + " is gone");
    if (wanted.device == kMasterDevice) {
      end = TRY(sys::duplicate(master));
    } else if (wanted.device == kOwnTerminal) {
      // Only a process of the session can open it by this name.
      TRY(holder.session.write_buffer(holder.live->site, 0, "/dev/tty", sizeof "/dev/tty"));
      const std::int64_t fd =
          TRY(call(holder, make_call(SYS_openat, static_cast<std::uint64_t>(AT_FDCWD), buffer_at(holder, 0),
                                     static_cast<std::uint64_t>(flags | O_NONBLOCK | O_CLOEXEC))));
      if (fd >= 0) {
        end = TRY(sys::pidfd_get_fd(holder.live->pidfd.get(), static_cast<int>(fd)));
        TRY(call(holder, make_call(SYS_close, static_cast<std::uint64_t>(fd))));
      }
    }
    if (!end) end = TRY(open_slave_of(master, flags));
  }
  if (::fcntl(end.get(), F_SETFL, flags & kSettableFlags) != 0) return os_error("fcntl", "F_SETFL");
  return end;
}

Result<void> TerminalRoom::take_controlling(HeldProcess& leader, std::vector<Notice>& not_restored) {
  const TerminalImage* wanted = target_.terminal_of(leader.live->inside.value);
  if (wanted == nullptr) return {};
  return change_controlling({wanted->session, wanted->number}, not_restored);
}

HeldProcess* TerminalRoom::leader_of(std::int32_t session) {
  const ProcessImage* leader = target_.find_by_pid(InsidePid{session});
  return leader != nullptr ? capture_.find(leader->incarnation) : nullptr;
}

Result<void> TerminalRoom::change_controlling(const SessionTerminal& change, std::vector<Notice>& not_restored) {
  HeldProcess* leader = leader_of(change.session);
  if (leader == nullptr) return {};
  // The signals that its session gets for this go with all others of the live state.
  const std::int64_t left = TRY(on_terminal(*leader, "/dev/tty", O_RDWR | O_NOCTTY | O_NONBLOCK, TIOCNOTTY, 0));
  if (change.terminal < 0) {
    if (left < 0) not_restored.push_back(refused(*leader, "its terminal stays its controlling one", left));
    return {};
  }
  const int master = master_of(change.terminal);
  const std::int64_t taken =
      master < 0
          ? -ENXIO
          : TRY(on_terminal(*leader, slave_path(number_of(master)), O_RDWR | O_NOCTTY | O_NONBLOCK, TIOCSCTTY, 0));
  if (taken < 0) not_restored.push_back(refused(*leader, "its controlling terminal", taken));
  return {};
}

// Only a member of the terminal's session may choose its foreground job. All signals of a held process are blocked, so
// that the kernel does not stop one that asks from the background.
Result<void> TerminalRoom::restore_foreground(const TerminalImage& wanted, int master,
                                              std::vector<Notice>& not_restored) {
  HeldProcess* leader = leader_of(wanted.session);
  if (leader == nullptr || wanted.foreground_group == 0) return {};
  int present = 0;
  (void)::ioctl(master, TIOCGPGRP, &present);
  for (const ProcessImage& process : target_.processes) {
    if (process.process_group != wanted.foreground_group) continue;
    const HeldProcess* member = capture_.find(process.incarnation);
    if (member != nullptr && is_in_group(member->live->pid, present)) return {};
  }
  TRY(leader->session.write_buffer(leader->live->site, 0, &wanted.foreground_group, sizeof wanted.foreground_group));
  const std::int64_t chosen =
      TRY(on_terminal(*leader, "/dev/tty", O_RDWR | O_NOCTTY | O_NONBLOCK, TIOCSPGRP, buffer_at(*leader, 0)));
  if (chosen < 0) not_restored.push_back(refused(*leader, "the foreground job of its terminal", chosen));
  return {};
}

Result<void> TerminalRoom::restore(std::vector<Notice>& not_restored) {
  for (const SessionTerminal& change : plan_.sessions) TRY(change_controlling(change, not_restored));
  for (const TerminalImage& wanted : target_.terminals) {
    const int master = master_of(wanted.number);
    if (master < 0) continue;
    const auto report = [&](const Result<void>& done, const char* what) {
      if (done.ok()) return;
      not_restored.push_back({0, "terminal", slave_path(wanted.number) + ", " + what + ": " + done.error().describe()});
    };
    const auto set = [&](bool ok, const char* what) { report(ok ? Result<void>() : os_error("ioctl"), what); };
    const bool made = made_.contains(wanted.number);
    const TerminalImage* present = made ? nullptr : live_.find_terminal(wanted.number);
    set(::tcsetattr(master, TCSANOW, &wanted.modes) == 0, "its modes");
    // The window of one that lives on is its client's.
    if (made || wanted.command == 0) set(::ioctl(master, TIOCSWINSZ, &wanted.size) == 0, "its size");
    if (wanted.has_slave && !has_input_of(present, wanted)) {
      report(replace_terminal_input(master, wanted.input), "its input");
    }
    if (wanted.command == 0 && !wanted.packets && (present == nullptr || present->output != wanted.output)) {
      report(replace_terminal_output(master, wanted.output), "its output");
    }
    const int packets = wanted.packets ? 1 : 0;
    const int locked = wanted.locked ? 1 : 0;
    set(::ioctl(master, TIOCPKT, &packets) == 0, "its packets");
    set(::ioctl(master, TIOCSPTLCK, &locked) == 0, "its lock");
    TRY(restore_foreground(wanted, master, not_restored));
  }
  return {};
}

}  // namespace deltabox
