#include "deltacr/terminals.h"

#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#include <string>

namespace deltabox {

namespace {

using parasite::Call;
using parasite::make_call;

// The kernel names the group as our pid namespace does; an image names it as the sandbox does. 0: nobody is in it.
std::int32_t foreground_group(int master, const TreeImage& image) {
  pid_t group = 0;
  if (::ioctl(master, TIOCGPGRP, &group) != 0 || group <= 0) return 0;
  for (const ProcessImage& process : image.processes) {
    if (::getpgid(process.host_pid.value) == group) return process.process_group;
  }
  return 0;
}

// Only a member of the terminal's session may choose its foreground job. All signals of a held process are blocked, so
// that the kernel does not stop one that asks from the background.
bool set_foreground_group(HeldProcess& leader, const ProcessImage& image, const TreeImage& live, std::int32_t group) {
  if (!leader.session.write_buffer(leader.live->site, 0, &group, sizeof group).ok()) return false;
  const std::uint64_t address = leader.live->site.mapping.value + parasite::kBufferOffset;
  for (const DescriptorSlot& slot : image.descriptors) {
    if (live.descriptions[slot.description].type != "terminal") continue;
    Call call = make_call(SYS_ioctl, static_cast<std::uint64_t>(slot.fd), TIOCSPGRP, address);
    if (!leader.session.run(leader.live->site, {&call, 1}).ok()) return false;
    if (call.result == 0) return true;
  }
  return false;
}

}  // namespace

void capture_terminals(const TerminalTable& terminals, TreeImage& image) {
  for (const auto& [id, terminal] : terminals) {
    TerminalImage captured;
    captured.id = id;
    if (::tcgetattr(terminal.master, &captured.modes) != 0) continue;
    captured.foreground_group = foreground_group(terminal.master, image);
    image.terminals.push_back(captured);
  }
}

void restore_terminals(const TerminalTable& terminals, const TreeImage& live, const TreeImage& target,
                       TreeCapture& capture, std::vector<Notice>& not_restored) {
  for (const TerminalImage& wanted : target.terminals) {
    const auto found = terminals.find(wanted.id);
    if (found == terminals.end()) continue;
    const HeldTerminal& terminal = found->second;
    const auto report = [&](const char* what) {
      not_restored.push_back({terminal.leader.value, "terminal", std::string(what) + " of its terminal"});
    };
    if (::tcsetattr(terminal.master, TCSANOW, &wanted.modes) != 0) report("the modes");
    if (wanted.foreground_group == 0 || foreground_group(terminal.master, live) == wanted.foreground_group) continue;
    const ProcessImage* leader = live.find_by_pid(terminal.leader);
    HeldProcess* held = leader != nullptr ? capture.find(leader->incarnation) : nullptr;
    if (held == nullptr || !set_foreground_group(*held, *leader, live, wanted.foreground_group)) {
      report("the foreground job");
    }
  }
}

}  // namespace deltabox
