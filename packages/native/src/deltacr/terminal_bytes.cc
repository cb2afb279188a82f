#include "deltacr/terminal_bytes.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <cerrno>
#include <optional>

namespace deltabox {

namespace {

// The kernel hands bytes on in the background; asking whether there are any makes it do so.
constexpr int kLooks = 50;
constexpr useconds_t kBetweenLooks_us = 200;

std::size_t waiting(int fd) {
  pollfd look{fd, POLLIN, 0};
  (void)::poll(&look, 1, 0);
  int count = 0;
  return ::ioctl(fd, FIONREAD, &count) == 0 && count > 0 ? static_cast<std::size_t>(count) : 0;
}

// Other modes for the length of a scope.
class ModesFor {
 public:
  ModesFor(int fd, const termios& modes) : fd_(fd) {
    termios before{};
    if (::tcgetattr(fd, &before) != 0 || ::tcsetattr(fd, TCSANOW, &modes) != 0) return;
    before_ = before;
  }
  ~ModesFor() {
    if (before_) (void)::tcsetattr(fd_, TCSANOW, &*before_);
  }
  ModesFor(const ModesFor&) = delete;
  ModesFor& operator=(const ModesFor&) = delete;
  bool set() const { return before_.has_value(); }

 private:
  int fd_;
  std::optional<termios> before_;
};

termios modes_of(int fd) {
  termios modes{};
  (void)::tcgetattr(fd, &modes);
  return modes;
}

bool has_lines(const termios& modes) { return (modes.c_lflag & ICANON) != 0; }

// Those of an unfinished line can be read, too. Nothing else: without IXON, say, one that was stopped would go on.
termios without_lines(termios modes) {
  modes.c_lflag &= ~static_cast<tcflag_t>(ICANON);
  return modes;
}

// Lines where there were lines; nothing is echoed, translated, taken for a signal or for an order to erase.
termios quiet(termios modes) {
  const tcflag_t lines = modes.c_lflag & ICANON;
  ::cfmakeraw(&modes);
  modes.c_lflag |= lines;
  if (lines == 0) return modes;
  for (const int character : {VERASE, VKILL, VEOF, VEOL, VEOL2}) modes.c_cc[character] = _POSIX_VDISABLE;
  return modes;
}

std::string read_all(int fd) {
  std::string bytes;
  char buffer[4096];
  for (;;) {
    const ssize_t count = ::read(fd, buffer, sizeof buffer);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return bytes;
    bytes.append(buffer, static_cast<std::size_t>(count));
  }
}

Result<void> write_waiting(int fd, const std::string& bytes) {
  for (std::size_t done = 0; done < bytes.size();) {
    const ssize_t count = ::write(fd, bytes.data() + done, bytes.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return os_error("write", "terminal");
    done += static_cast<std::size_t>(count);
  }
  return {};
}

std::string take_input(int slave) {
  const ModesFor all(slave, without_lines(modes_of(slave)));
  return all.set() ? read_all(slave) : std::string();
}

Result<void> put_input(int master, int slave, const std::string& bytes) {
  const termios modes = quiet(modes_of(slave));
  const ModesFor silently(slave, modes);
  TRY(write_waiting(master, bytes));
  const std::size_t end_of_lines = bytes.rfind('\n') + 1;
  const std::size_t seen = has_lines(modes) ? end_of_lines : bytes.size();
  // Before the modes are the program's again.
  for (int look = 0; look < kLooks && waiting(slave) < seen; ++look) ::usleep(kBetweenLooks_us);
  return {};
}

std::string take_output(int master) {
  std::string bytes(waiting(master), '\0');
  const ssize_t count = bytes.empty() ? 0 : ::read(master, bytes.data(), bytes.size());
  bytes.resize(count > 0 ? static_cast<std::size_t>(count) : 0);
  return bytes;
}

Result<void> put_output(int master, const std::string& bytes) {
  UniqueFd slave = TRY(open_slave_of(master, O_RDWR));
  termios modes = modes_of(slave.get());
  modes.c_oflag &= ~static_cast<tcflag_t>(OPOST);
  const ModesFor untranslated(slave.get(), modes);
  Result<void> written = write_waiting(slave.get(), bytes);
  if (written.ok() || written.error().os_errno != EAGAIN) return written;
  // Somebody stopped it (Ctrl-S).
  (void)::tcflow(slave.get(), TCOON);
  written = write_waiting(slave.get(), bytes);
  (void)::tcflow(slave.get(), TCOOFF);
  return written;
}

}  // namespace

Result<UniqueFd> open_slave_of(int master, int flags) {
  // With O_CLOEXEC it would be among the flags of the open file for ever (fcntl(2), F_GETFL), unlike after open(2).
  UniqueFd slave(::ioctl(master, TIOCGPTPEER, flags | O_NOCTTY | O_NONBLOCK));
  if (!slave || ::fcntl(slave.get(), F_SETFD, FD_CLOEXEC) != 0) return os_error("ioctl", "TIOCGPTPEER");
  return slave;
}

std::string copy_terminal_input(int master, int slave) {
  // Of a line that is not ended nothing is shown.
  if (waiting(slave) == 0 && !has_lines(modes_of(slave))) return {};
  const Result<UniqueFd> own = open_slave_of(master, O_RDWR);
  if (!own.ok()) return {};
  std::string bytes = take_input(own.value().get());
  if (!bytes.empty()) (void)put_input(master, own.value().get(), bytes);
  return bytes;
}

std::string copy_terminal_output(int master) {
  std::string bytes = take_output(master);
  if (!bytes.empty()) (void)put_output(master, bytes);
  return bytes;
}

Result<void> replace_terminal_input(int master, const std::string& bytes) {
  UniqueFd slave = TRY(open_slave_of(master, O_RDWR));
  (void)take_input(slave.get());
  return bytes.empty() ? Result<void>() : put_input(master, slave.get(), bytes);
}

Result<void> replace_terminal_output(int master, const std::string& bytes) {
  while (!take_output(master).empty()) {
  }
  return bytes.empty() ? Result<void>() : put_output(master, bytes);
}

}  // namespace deltabox
