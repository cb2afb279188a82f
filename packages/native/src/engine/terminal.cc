#include "engine/terminal.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "deltacr/terminal_bytes.h"
#include "sys/files.h"

namespace deltabox {

namespace {

constexpr std::uint32_t kMaxSide = 10'000;  // wide enough for logs that must not wrap

}  // namespace

Result<TerminalSize> check_terminal_size(std::uint32_t cols, std::uint32_t rows) {
  if (cols < 1 || cols > kMaxSide || rows < 1 || rows > kMaxSide) {
    return make_error(Code::kInvalidArgument,
                      "not the size of a terminal: " + std::to_string(cols) + " × " + std::to_string(rows),
                      "Give 1 to 10,000 columns and rows.");
  }
  return TerminalSize{static_cast<std::uint16_t>(cols), static_cast<std::uint16_t>(rows)};
}

Result<Terminal> open_terminal(int m1_root, TerminalSize size, uid_t owner) {
  Terminal terminal;
  terminal.master = TRY(sys::open_in_root(m1_root, "/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK));
  const int unlocked = 0;
  if (::ioctl(terminal.master.get(), TIOCSPTLCK, &unlocked) != 0) return os_error("ioctl", "TIOCSPTLCK");
  TRY(resize_terminal(terminal.master.get(), size));
  // By the master and not by a path, which something else could have taken.
  terminal.slave = TRY(open_slave_of(terminal.master.get(), O_RDWR));
  if (::fcntl(terminal.slave.get(), F_SETFL, 0) != 0) return os_error("fcntl", "F_SETFL");
  if (owner != 0 && ::fchown(terminal.slave.get(), owner, static_cast<gid_t>(-1)) != 0) {
    return os_error("fchown", "terminal");
  }
  return terminal;
}

Result<void> resize_terminal(int master, TerminalSize size) {
  const winsize wanted{size.rows, size.cols, 0, 0};
  if (::ioctl(master, TIOCSWINSZ, &wanted) != 0) return os_error("ioctl", "TIOCSWINSZ");
  return {};
}

}  // namespace deltabox
