#include "deltacr/terminals.h"

#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <termios.h>
#include <unistd.h>

#include <optional>

#include "deltacr/terminal_bytes.h"

namespace deltabox {

namespace {

constexpr unsigned kPtsMajor = 136;
const dev_t kMasterDevice = makedev(5, 2);
const dev_t kOwnTerminal = makedev(5, 0);  // /dev/tty

// Of the slave end, whichever end is asked. Nothing: its other end is closed, and all calls fail.
std::optional<dev_t> device_behind(int fd) {
  unsigned device = 0;
  if (::ioctl(fd, TIOCGDEV, &device) != 0) return std::nullopt;
  // The kernel's 32-bit encoding: minor bits 0–7 and 20–31, major bits 8–19.
  return makedev(device >> 8 & 0xfff, (device & 0xff) | (device >> 12 & 0xfff00));
}

int ask(int fd, unsigned long request) {
  int value = 0;
  return ::ioctl(fd, request, &value) == 0 ? value : 0;
}

}  // namespace

bool is_in_group(HostTid process, int group) { return ::getpgid(process.value) == group; }

void TerminalReader::meet(Description& description, UniqueFd duplicate) {
  const std::optional<dev_t> device = device_behind(duplicate.get());
  if (!device) return;
  if (major(*device) != kPtsMajor) {
    description.kind = DescriptionKind::kOther;
    return;
  }
  description.terminal = static_cast<int>(minor(*device));
  Ends& ends = met_[description.terminal];
  if (description.device == kMasterDevice) {
    ends.master = std::move(duplicate);
  } else if (description.device != kOwnTerminal || !ends.slave) {
    ends.slave = std::move(duplicate);
  }
}

int TerminalReader::master(int number) const {
  const auto found = met_.find(number);
  return found != met_.end() ? found->second.master.get() : -1;
}

TerminalImage TerminalReader::read_one(int number, int master, int slave, const TreeImage& image) const {
  TerminalImage terminal;
  terminal.number = number;
  (void)::tcgetattr(master, &terminal.modes);
  (void)::ioctl(master, TIOCGWINSZ, &terminal.size);
  terminal.locked = ask(master, TIOCGPTLCK) != 0;
  terminal.packets = ask(master, TIOCGPKT) != 0;
  terminal.has_slave = slave >= 0;
  struct stat info {};
  if (slave >= 0 && ::fstat(slave, &info) == 0 && info.st_rdev != kOwnTerminal) {
    terminal.uid = info.st_uid;
    terminal.gid = info.st_gid;
    terminal.mode = info.st_mode & 07777;
  }
  // An image names sessions and groups as the sandbox does.
  const int group = ask(master, TIOCGPGRP);
  const int session = ask(master, TIOCGSID);
  for (const ProcessImage& process : image.processes) {
    if (group > 0 && is_in_group(process.host_pid, group)) terminal.foreground_group = process.process_group;
    if (session > 0 && ::getsid(process.host_pid.value) == session) terminal.session = process.session;
  }
  return terminal;
}

void TerminalReader::read(const TerminalTable& commands, TreeImage& image) {
  const auto slave_of = [&](int number) {
    const auto found = met_.find(number);
    return found != met_.end() ? found->second.slave.get() : -1;
  };
  for (const auto& [id, master] : commands) {
    const std::optional<dev_t> device = device_behind(master);
    if (!device) continue;
    const int number = static_cast<int>(minor(*device));
    const int slave = slave_of(number);
    TerminalImage terminal = read_one(number, master, slave, image);
    terminal.command = id;
    // What it printed is on its way to the client and is never taken back.
    if (slave >= 0) terminal.input = copy_terminal_input(master, slave);
    image.terminals.push_back(std::move(terminal));
  }
  for (const auto& [number, ends] : met_) {
    if (!ends.master) continue;
    TerminalImage terminal = read_one(number, ends.master.get(), ends.slave.get(), image);
    if (ends.slave) terminal.input = copy_terminal_input(ends.master.get(), ends.slave.get());
    if (!terminal.packets) terminal.output = copy_terminal_output(ends.master.get());
    image.terminals.push_back(std::move(terminal));
  }
}

}  // namespace deltabox
