#include "reconcile/descriptor_io.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <span>

#include "base/side_by_side.h"
#include "reconcile/delivery.h"
#include "reconcile/fifo_io.h"
#include "reconcile/kinds/correction.h"
#include "reconcile/kinds/epoll.h"
#include "reconcile/kinds/objects.h"
#include "reconcile/lock_io.h"
#include "reconcile/map_file.h"
#include "reconcile/plan_epolls.h"
#include "reconcile/remote_calls.h"
#include "reconcile/socket_io.h"
#include "sys/files.h"
#include "sys/processes.h"
#include "sys/sockets.h"

namespace deltabox {

namespace {

using parasite::Call;
using parasite::make_call;

constexpr int kOpenFlags = O_ACCMODE | O_PATH | O_DIRECTORY | O_SYNC | O_DSYNC | kSettableFlags | O_NOCTTY;
constexpr std::size_t kFilesWorthAThread = 24;  // to open so many takes several times as long as to start one

Result<UniqueFd> at_its_offset(UniqueFd file, const Description& description) {
  if ((description.status_flags & O_PATH) == 0 && description.offset > 0 &&
      ::lseek(file.get(), description.offset, SEEK_SET) != description.offset) {
    return os_error("lseek", description.path);
  }
  return file;
}

bool is_for_writing(const Description& description) {
  return (description.status_flags & O_ACCMODE) != O_RDONLY && (description.status_flags & O_PATH) == 0;
}

// On any thread.
Result<UniqueFd> open_at_path(const Description& description, int m1_root) {
  UniqueFd file = TRY(sys::open_in_root(m1_root, description.path, description.status_flags & kOpenFlags));
  return at_its_offset(std::move(file), description);
}

}  // namespace

void open_files(const TreeImage& image, const std::vector<std::uint32_t>& wanted, int m1_root,
                std::map<std::uint32_t, UniqueFd>& opened) {
  for (const bool for_writing : {true, false}) {
    std::vector<std::uint32_t> indices;
    std::copy_if(wanted.begin(), wanted.end(), std::back_inserter(indices), [&](std::uint32_t index) {
      const Description& description = image.descriptions[index];
      return description.kind == DescriptionKind::kFile && !description.deleted && !opened.contains(index) &&
             is_for_writing(description) == for_writing;
    });
    std::vector<UniqueFd> files(indices.size());
    const auto open = [&](std::size_t begin, std::size_t end) -> Result<void> {
      for (std::size_t at = begin; at < end; ++at) {
        Result<UniqueFd> file = open_at_path(image.descriptions[indices[at]], m1_root);
        if (file.ok()) files[at] = file.release_value();
      }
      return {};
    };
    (void)side_by_side(indices.size(), 4, indices.size() / kFilesWorthAThread, open);
    for (std::size_t at = 0; at < indices.size(); ++at) {
      if (files[at].valid()) opened[indices[at]] = std::move(files[at]);
    }
  }
}

Result<UniqueFd> open_description(const Description& description, int m1_root, int self_fd_dir, RevivedFiles& revived,
                                  std::vector<std::string>& lost) {
  const int flags = description.status_flags & kOpenFlags;
  if (description.kind == DescriptionKind::kObject) {
    UniqueFd object = TRY(make_object(description.state, {m1_root, self_fd_dir}, lost));
    if (::fcntl(object.get(), F_SETFL, flags & kSettableFlags) != 0) return os_error("fcntl", "F_SETFL");
    return object;
  }
  if (description.kind == DescriptionKind::kPipe) {
    // Non-blocking, so that opening one end does not wait for the other; the flags are set right afterwards (open(2)
    // takes no O_DIRECT for one).
    UniqueFd pipe = TRY(
        sys::open_at(self_fd_dir, std::to_string(description.pipe->path_fd.get()), (flags & O_ACCMODE) | O_NONBLOCK));
    if (::fcntl(pipe.get(), F_SETFL, description.status_flags & kSettableFlags) != 0)
      return os_error("fcntl", "F_SETFL");
    return pipe;
  }
  const bool is_memory = description.kind == DescriptionKind::kMemory;
  if (!is_memory && !description.is_deleted_file()) return open_at_path(description, m1_root);
  const int known =
      is_memory ? revived.memory(description.shared_object) : TRY(revived.file(description.device, description.inode));
  return at_its_offset(TRY(reopen(self_fd_dir, known, flags)), description);
}

Result<void> adjust_description(const Description& wanted, int pidfd, int fd) {
  UniqueFd duplicate = TRY(sys::pidfd_get_fd(pidfd, fd));
  if (wanted.kind == DescriptionKind::kObject) TRY(correct_object(duplicate.get(), wanted.state));
  const int flags = ::fcntl(duplicate.get(), F_GETFL);
  if ((flags ^ wanted.status_flags) & kSettableFlags) {
    if (::fcntl(duplicate.get(), F_SETFL, wanted.status_flags & kSettableFlags) != 0)
      return os_error("fcntl", "F_SETFL");
  }
  const bool has_offset = wanted.kind == DescriptionKind::kFile || wanted.kind == DescriptionKind::kMemory;
  if (has_offset && wanted.offset >= 0 && ::lseek(duplicate.get(), wanted.offset, SEEK_SET) < 0) {
    return os_error("lseek", wanted.path);
  }
  return {};
}

namespace {

// From the numbers under which they arrive to their slots. One that arrives where another one belongs steps aside
// first.
std::vector<Call> placing_calls(std::span<const Install> installs, std::vector<int> numbers, std::set<int> taken) {
  const auto argument = [](int fd) { return static_cast<std::uint64_t>(fd); };
  std::vector<Call> calls;
  for (const Install& install : installs) taken.insert(install.slot);
  for (int& number : numbers) {
    const bool is_slot =
        std::any_of(installs.begin(), installs.end(), [&](const Install& install) { return install.slot == number; });
    if (!is_slot) continue;
    const int aside = lowest_free(taken, 1).front();
    taken.insert(aside);
    calls.push_back(make_call(SYS_fcntl, argument(number), F_DUPFD_CLOEXEC, argument(aside)));
    calls.push_back(make_call(SYS_close, argument(number)));
    number = aside;
  }
  for (std::size_t index = 0; index < installs.size(); ++index) {
    const Install& install = installs[index];
    calls.push_back(
        make_call(SYS_dup3, argument(numbers[index]), argument(install.slot), install.close_on_exec ? O_CLOEXEC : 0));
    calls.push_back(make_call(SYS_close, argument(numbers[index])));
  }
  return calls;
}

}  // namespace

Result<void> install_descriptors(const std::vector<ProcessInstalls>& processes) {
  std::size_t most = 0;
  for (const ProcessInstalls& process : processes) most = std::max(most, process.installs.size());
  for (std::size_t start = 0; start < most; start += sys::kMaxFdsPerMessage) {
    std::vector<Delivery> deliveries;
    for (const ProcessInstalls& process : processes) {
      if (process.installs.size() <= start) continue;
      const std::size_t count = std::min(sys::kMaxFdsPerMessage, process.installs.size() - start);
      const std::span<const Install> part = std::span(process.installs).subspan(start, count);
      Delivery delivery;
      delivery.held = process.held;
      for (const Install& install : part) delivery.fds.push_back(install.fd);
      delivery.use = [part](const std::vector<int>& numbers, const std::set<int>& taken) {
        return placing_calls(part, numbers, taken);
      };
      deliveries.push_back(std::move(delivery));
    }
    TRY(deliver(deliveries));
    for (const Delivery& delivery : deliveries) TRY(check_all(*delivery.held, delivery.calls, "placing descriptors"));
  }
  return {};
}

Result<void> close_descriptors(HeldProcess& held, const std::vector<int>& slots) {
  std::vector<Call> calls;
  for (const int slot : slots) calls.push_back(make_call(SYS_close, static_cast<std::uint64_t>(slot)));
  return run_all(held, calls, "closing descriptors");
}

Result<void> set_descriptor_flag(HeldProcess& held, int slot, bool close_on_exec) {
  std::vector<Call> calls{
      make_call(SYS_fcntl, static_cast<std::uint64_t>(slot), F_SETFD, close_on_exec ? FD_CLOEXEC : 0)};
  return run_all(held, calls, "F_SETFD");
}

namespace {

// False: its path is too long for this way.
Result<bool> start_chdir(HeldProcess& held, const std::string& path, Call& change) {
  if (path.size() >= parasite::kBufferBytes) return false;
  TRY(held.session.write_buffer(held.live->site, 0, path.c_str(), path.size() + 1));
  change = make_call(SYS_chdir, buffer_at(held, 0));
  TRY(held.session.start(held.live->site, {&change, 1}));
  return true;
}

// The process may lack search permission that it had when it came here; the engine has it.
Result<void> pass_working_dir(HeldProcess& held, const std::string& path, int m1_root) {
  UniqueFd dir = TRY(sys::open_in_root(m1_root, path, O_PATH | O_DIRECTORY));
  std::vector<Delivery> deliveries(1);
  deliveries[0].held = &held;
  deliveries[0].fds = {dir.get()};
  deliveries[0].use = [](const std::vector<int>& numbers, const std::set<int>&) {
    const auto number = static_cast<std::uint64_t>(numbers.front());
    return std::vector<Call>{make_call(SYS_fchdir, number), make_call(SYS_close, number)};
  };
  TRY(deliver(deliveries));
  return check_all(held, deliveries[0].calls, "fchdir");
}

}  // namespace

Result<void> change_working_dirs(const std::vector<WorkingDirChange>& changes, int m1_root) {
  std::vector<Call> calls(changes.size());
  std::vector<bool> started;
  for (std::size_t index = 0; index < changes.size(); ++index) {
    started.push_back(TRY(start_chdir(*changes[index].held, changes[index].path, calls[index])));
  }
  for (std::size_t index = 0; index < changes.size(); ++index) {
    HeldProcess& held = *changes[index].held;
    if (started[index]) TRY(held.session.collect(held.live->site, {&calls[index], 1}));
    if (!started[index] || calls[index].result != 0) TRY(pass_working_dir(held, changes[index].path, m1_root));
  }
  return {};
}

Result<std::vector<Notice>> rehome(TreeCapture& capture, const TreeImage& image, const std::set<int>& switched,
                                   int m1_root, int self_fd_dir) {
  std::vector<Notice> failures;
  const auto is_switched = [&](int volume) { return switched.contains(volume); };
  // One new description per old one, shared by the same slots of the same processes.
  std::map<std::uint32_t, UniqueFd> opened;
  std::vector<std::string> lost;
  RevivedFiles revived(image, m1_root);
  std::vector<std::uint32_t> left;
  for (std::uint32_t index = 0; index < image.descriptions.size(); ++index) {
    if (is_switched(image.descriptions[index].volume)) left.push_back(index);
  }
  open_files(image, left, m1_root, opened);
  // Those for writing before what is opened or mapped for reading, as there.
  for (std::uint32_t index = 0; index < image.descriptions.size(); ++index) {
    if (opened.contains(index)) continue;
    const Description& description = image.descriptions[index];
    const bool can_move = !description.deleted || description.is_deleted_file();
    if (!is_switched(description.volume) || !can_move || !is_for_writing(description) ||
        description.kind != DescriptionKind::kFile)
      continue;
    opened[index] = TRY(open_description(description, m1_root, self_fd_dir, revived, lost));
  }
  open_switched_fifos(capture, image, switched, m1_root, self_fd_dir, opened, failures);
  std::vector<WorkingDirChange> dirs;
  for (const ProcessImage& process : image.processes) {
    HeldProcess* held = capture.find(process.incarnation);
    if (held == nullptr || !is_switched(process.working_dir_volume) || process.working_dir_deleted) continue;
    dirs.push_back({held, process.working_dir});
  }
  TRY(change_working_dirs(dirs, m1_root));
  std::vector<ProcessInstalls> installs;
  for (const ProcessImage& process : image.processes) {
    HeldProcess* held = capture.find(process.incarnation);
    if (held == nullptr) continue;
    installs.push_back({held, {}});
    for (const DescriptorSlot& slot : process.descriptors) {
      const Description& description = image.descriptions[slot.description];
      const bool can_move = !description.deleted || description.is_deleted_file();
      const bool is_left = is_switched(description.volume) && can_move && description.kind == DescriptionKind::kFile;
      const bool watches = watches_any(description.state, switched);
      const bool is_bound =
          description.socket && is_switched(description.socket->node.volume) && can_be_made(*description.socket);
      const bool is_moved_fifo = description.is_fifo() && opened.contains(slot.description);
      if (!is_left && !watches && !is_bound && !is_moved_fifo) continue;
      if (!opened.contains(slot.description)) {
        Result<UniqueFd> file = is_bound ? make_bound_socket(*held, description, m1_root)
                                         : open_description(description, m1_root, self_fd_dir, revived, lost);
        for (const std::string& part : lost) {
          failures.push_back(
              {process.pid.value, description.type, "descriptor " + std::to_string(slot.fd) + ": " + part});
        }
        lost.clear();
        if (!file.ok()) {
          // Reading the sealed layer on is harmless, writing it is not.
          if (is_left && ((description.status_flags & O_ACCMODE) != O_RDONLY || description.type == "directory"))
            return file.error();
          failures.push_back({process.pid.value, description.type,
                              "descriptor " + std::to_string(slot.fd) + ": " + file.error().describe()});
          opened[slot.description] = UniqueFd();
          continue;
        }
        opened[slot.description] = file.release_value();
      }
      if (opened[slot.description].valid()) {
        installs.back().installs.push_back({opened[slot.description].get(), slot.fd, slot.close_on_exec});
      }
    }
  }
  TRY(install_descriptors(installs));
  TRY(move_shared_mappings(capture, image, switched, m1_root, revived));
  for (const ProcessImage& process : image.processes) {
    HeldProcess* held = capture.find(process.incarnation);
    if (held == nullptr) continue;
    std::vector<ProcessLock> locks;
    std::copy_if(process.locks.begin(), process.locks.end(), std::back_inserter(locks), [&](const ProcessLock& lock) {
      const Description* description = image.description_at(process, lock.fd);
      return description != nullptr && is_switched(description->volume);
    });
    TRY(take_process_locks(*held, locks));
  }
  std::set<std::uint32_t> remade;
  for (const auto& [index, object] : opened) {
    if (object.valid() && image.descriptions[index].kind != DescriptionKind::kFile) remade.insert(index);
  }
  settle_datagrams(capture, image, {remade, {}}, m1_root, failures);
  TRY(change_epolls(capture, plan_watching_again(image, remade), failures));
  // The new files have no locks but these, so that none can be in another's way.
  for (const auto& [index, file] : opened) {
    if (file.valid()) TRY(take_description_locks(file.get(), image.descriptions[index].locks));
  }
  return failures;
}

}  // namespace deltabox
