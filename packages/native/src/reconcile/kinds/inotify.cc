#include "reconcile/kinds/inotify.h"

#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

#include "sys/files.h"

namespace deltabox {

namespace {

constexpr int kMaxDescriptor = 65'536;  // what the numbers of watches that are gone may come to; some 5 µs each
constexpr int kDrainEvery = 4096;       // the kernel's queue holds 16,384 events
constexpr int kMaxReads = 64;

void drain(int instance) {
  alignas(inotify_event) char buffer[65536];
  for (int round = 0; round<kMaxReads&& ::read(instance, buffer, sizeof buffer)> 0; ++round) {
  }
}

// inotify takes a path; the engine names what it has opened through /proc/self/fd, its working directory meanwhile.
class Arming {
 public:
  explicit Arming(int instance) : instance_(instance) {}
  Result<int> add(int fd, std::uint32_t mask) const {
    const int descriptor = ::inotify_add_watch(instance_, std::to_string(fd).c_str(), mask);
    if (descriptor >= 0) return descriptor;
    Error error = os_error("inotify_add_watch");
    if (error.os_errno == ENOSPC) error.next_step = "Raise the sysctl fs.inotify.max_user_watches.";
    return error;
  }
  // The kernel gives numbers out in order, one after the other: those up to `wanted` are used up.
  Result<void> skip_to(int wanted) {
    if (wanted > kMaxDescriptor) return make_error(Code::kTooLarge, "its number is above 65,536");
    if (!stand_in_) stand_in_ = UniqueFd(::memfd_create("watched", MFD_CLOEXEC));
    if (!stand_in_) return os_error("memfd_create");
    while (next_ < wanted) {
      const int used = TRY(add(stand_in_.get(), IN_OPEN));
      ::inotify_rm_watch(instance_, used);
      next_ = used + 1;
      if (next_ % kDrainEvery == 0) drain(instance_);
    }
    return {};
  }
  Result<void> add_as(int wanted, int fd, std::uint32_t mask) {
    if (next_ < wanted) TRY(skip_to(wanted));
    const int descriptor = TRY(add(fd, mask));
    if (descriptor != wanted) {
      return make_error(Code::kInternal,
                        "it would be watch " + std::to_string(descriptor) + " instead of " + std::to_string(wanted));
    }
    next_ = descriptor + 1;
    return {};
  }

 private:
  int instance_;
  int next_ = 1;
  UniqueFd stand_in_;
};

Result<void> arm(Arming& arming, const InotifyWatch& watch, int m1_root) {
  if (watch.path.empty()) return make_error(Code::kUnsupported, "its path is not known");
  UniqueFd target = TRY(sys::open_in_root(m1_root, watch.path, O_PATH | O_NOFOLLOW));
  return arming.add_as(watch.descriptor, target.get(), watch.mask);
}

}  // namespace

Result<UniqueFd> make_inotify(const InotifyState& wanted, int m1_root, int self_fd_dir,
                              std::vector<std::string>& lost) {
  UniqueFd made(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!made) {
    Error error = os_error("inotify_init1");
    if (error.os_errno == EMFILE) error.next_step = "Raise the sysctl fs.inotify.max_user_instances.";
    return error;
  }
  if (::fchdir(self_fd_dir) != 0) return os_error("fchdir", "/proc/self/fd");
  Arming arming(made.get());
  for (const InotifyWatch& watch : wanted.watches) {
    const Result<void> armed = arm(arming, watch, m1_root);
    if (armed.ok()) continue;
    lost.push_back("watch " + std::to_string(watch.descriptor) + (watch.path.empty() ? "" : " on " + watch.path) +
                   ": " + armed.error().describe());
  }
  (void)::chdir("/");
  drain(made.get());
  return made;
}

Result<void> correct_inotify(int duplicate) {
  const int flags = ::fcntl(duplicate, F_GETFL);
  // Its users are frozen: for the length of the pause nobody sees the flag but us.
  if (::fcntl(duplicate, F_SETFL, flags | O_NONBLOCK) != 0) return os_error("fcntl", "F_SETFL");
  drain(duplicate);
  if (::fcntl(duplicate, F_SETFL, flags) != 0) return os_error("fcntl", "F_SETFL");
  return {};
}

}  // namespace deltabox
