// The lower limit of making a sandbox: bare namespaces with what every sandbox has, made by one process from nothing.
//
// Usage: deltabox-namespaces ROUNDS DIR   (DIR: on the disk of the state directory)
// Prints one line of JSON, an array of times in microseconds, each from clone(2) to the word of the first process
// inside that it is ready: user, mount, pid, ipc, uts and net namespaces, id maps, an overlay with upper and work
// directory in DIR as root, /proc, pivot_root. What a sandbox has beyond that is not here: further volumes, an engine,
// a filter.
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <vector>

namespace {

constexpr std::size_t kStackBytes = std::size_t{256} * 1024;
constexpr unsigned long kMaxRounds = 1000;

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "deltabox-namespaces: %s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

double now_us() {
  timespec time{};
  ::clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_nsec) / 1e3;
}

struct Inside {
  std::string dir;
  int mapped = -1;
  int ready = -1;
};

void write_file(const std::string& path, const std::string& text) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0 || ::write(fd, text.data(), text.size()) != static_cast<ssize_t>(text.size())) fail(path.c_str());
  ::close(fd);
}

void make_dir(const std::string& path) {
  if (::mkdir(path.c_str(), 0755) != 0 && errno != EEXIST) fail(path.c_str());
}

int inside(void* argument) {
  const Inside& inside = *static_cast<Inside*>(argument);
  char byte = 0;
  if (::read(inside.mapped, &byte, 1) != 1) fail("read");
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) fail("mount private");
  const std::string options = "lowerdir=" + inside.dir + "/lower,upperdir=" + inside.dir +
                              "/upper,workdir=" + inside.dir + "/work,userxattr,volatile";
  const std::string root = inside.dir + "/root";
  if (::mount("overlay", root.c_str(), "overlay", MS_NODEV, options.c_str()) != 0) fail("mount overlay");
  make_dir(root + "/proc");
  if (::mount("proc", (root + "/proc").c_str(), "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) != 0) fail("proc");
  if (::chdir(root.c_str()) != 0 || ::syscall(SYS_pivot_root, ".", ".") != 0) fail("pivot_root");
  if (::umount2(".", MNT_DETACH) != 0) fail("umount2");
  if (::write(inside.ready, "r", 1) != 1) fail("write");
  ::pause();
  return 0;
}

double one_round(const std::string& dir, char* stack) {
  for (const char* name : {"", "/lower", "/upper", "/work", "/root"}) make_dir(dir + name);
  int mapped[2];
  int ready[2];
  if (::pipe2(mapped, O_CLOEXEC) != 0 || ::pipe2(ready, O_CLOEXEC) != 0) fail("pipe2");
  Inside argument{dir, mapped[0], ready[1]};
  const std::string uid = std::to_string(::geteuid());
  const std::string gid = std::to_string(::getegid());
  const double begin_us = now_us();
  const int flags = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET | SIGCHLD;
  const pid_t child = ::clone(inside, stack + kStackBytes, flags, &argument);
  if (child < 0) fail("clone");
  const std::string proc = "/proc/" + std::to_string(child);
  write_file(proc + "/setgroups", "deny");
  write_file(proc + "/uid_map", "0 " + uid + " 1");
  write_file(proc + "/gid_map", "0 " + gid + " 1");
  if (::write(mapped[1], "m", 1) != 1) fail("write");
  ::close(ready[1]);
  char byte = 0;
  if (::read(ready[0], &byte, 1) != 1) fail("the process inside did not get ready");
  const double us = now_us() - begin_us;
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  for (const int fd : {mapped[0], mapped[1], ready[0]}) ::close(fd);
  return us;
}

}  // namespace

int main(int count, char** arguments) {
  const unsigned long rounds = count == 3 ? std::strtoul(arguments[1], nullptr, 10) : 0;
  if (rounds == 0 || rounds > kMaxRounds) {
    std::fprintf(stderr, "usage: deltabox-namespaces ROUNDS DIR\n");
    return 2;
  }
  std::vector<char> stack(kStackBytes);
  std::printf("[");
  for (unsigned long round = 0; round < rounds; ++round) {
    const std::string dir = std::string(arguments[2]) + "/round-" + std::to_string(round);
    std::printf("%s%.1f", round == 0 ? "" : ",", one_round(dir, stack.data()));
  }
  std::printf("]\n");
  return 0;
}
