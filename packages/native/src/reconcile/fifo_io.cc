#include "reconcile/fifo_io.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <string>
#include <utility>

#include "deltacr/descriptors.h"
#include "reconcile/descriptor_io.h"
#include "sys/files.h"
#include "sys/processes.h"

namespace deltabox {

namespace {

constexpr std::size_t kMaxTeeBytes = 1u << 30;  // tee(2) ends with what there is

// By the pipe that they lead to.
using Fifos = std::map<const PipeHandle*, std::vector<std::uint32_t>>;

Fifos fifos_among(const TreeImage& image, const std::function<bool(std::uint32_t)>& is_wanted) {
  Fifos fifos;
  for (std::uint32_t index = 0; index < image.descriptions.size(); ++index) {
    const Description& description = image.descriptions[index];
    if (description.is_fifo() && is_wanted(index)) fifos[description.pipe.get()].push_back(index);
  }
  return fifos;
}

Result<UniqueFd> open_node(const std::string& path, int m1_root) {
  UniqueFd node = TRY(sys::open_in_root(m1_root, path, O_PATH | O_NOFOLLOW));
  if (!S_ISFIFO(TRY(sys::stat_fd(node.get())).st_mode)) {
    return make_error(Code::kUnsupported, "another file lies at its path " + path);
  }
  return node;
}

Result<UniqueFd> open_end(int self_fd_dir, int node, const Description& wanted) {
  UniqueFd end = TRY(reopen(self_fd_dir, node, (wanted.status_flags & O_ACCMODE) | O_NONBLOCK));
  if (::fcntl(end.get(), F_SETFL, wanted.status_flags & kSettableFlags) != 0) return os_error("fcntl", "F_SETFL");
  return end;
}

const PipeContents* contents_of(const TreeImage& image, const PipeHandle* pipe) {
  const auto found = std::find_if(image.pipes.begin(), image.pipes.end(),
                                  [&](const PipeContents& contents) { return contents.pipe.get() == pipe; });
  return found != image.pipes.end() ? &*found : nullptr;
}

// A descriptor that leads to the description.
struct Holder {
  const ProcessImage* process = nullptr;
  int fd = -1;
};
std::optional<Holder> holder_of(const TreeImage& image, std::uint32_t description) {
  for (const ProcessImage& process : image.processes) {
    for (const DescriptorSlot& slot : process.descriptors) {
      if (slot.description == description) return Holder{&process, slot.fd};
    }
  }
  return std::nullopt;
}

// What waits, with the borders between its packets. It stays in the old one, too, which goes with its last end.
Result<void> tee_all(int self_fd_dir, int old_end, int write_end) {
  int waiting = 0;
  if (::ioctl(old_end, FIONREAD, &waiting) != 0) return os_error("FIONREAD", "fifo");
  const UniqueFd read_end = TRY(reopen(self_fd_dir, old_end, O_RDONLY | O_NONBLOCK));
  const ssize_t copied = ::tee(read_end.get(), write_end, kMaxTeeBytes, SPLICE_F_NONBLOCK);
  if (copied < 0) return os_error("tee", "fifo");
  if (copied == waiting) return {};
  return make_error(Code::kUnsupported, "what waits in it has no room in a new one");
}

}  // namespace

Result<std::map<std::uint32_t, UniqueFd>> open_fifo(const TreeImage& image, const std::vector<std::uint32_t>& ends,
                                                    int m1_root, int self_fd_dir, const FifoContents& contents) {
  const Description& any = image.descriptions[ends.front()];
  const UniqueFd found = any.is_fifo_at_path() ? TRY(open_node(any.path, m1_root)) : UniqueFd();
  const int node = found.valid() ? found.get() : any.pipe->path_fd.get();
  // Ends for writing can't be opened without a reader, and what waits is gone without an end.
  const UniqueFd guard = TRY(reopen(self_fd_dir, node, O_RDONLY | O_NONBLOCK));
  // More than an ordinary user may have, or more than its share: what waits tells whether it is enough.
  if (contents.capacity_bytes > 0) (void)::fcntl(guard.get(), F_SETPIPE_SZ, contents.capacity_bytes);
  std::map<std::uint32_t, UniqueFd> opened;
  const auto open_those = [&](bool writers, bool hung_up) -> Result<void> {
    for (const std::uint32_t end : ends) {
      const Description& wanted = image.descriptions[end];
      const bool writes = (wanted.status_flags & O_ACCMODE) != O_RDONLY;
      if (writes == writers && wanted.hung_up == hung_up) opened[end] = TRY(open_end(self_fd_dir, node, wanted));
    }
    return {};
  };
  // A reader hears of the end of writers that came after it (fifo_open() of the kernel).
  TRY(open_those(false, true));
  if (contents.waits || !opened.empty()) {
    const UniqueFd writer = TRY(reopen(self_fd_dir, node, O_WRONLY | O_NONBLOCK));
    if (contents.waits) TRY(contents.fill(writer.get()));
  }
  TRY(open_those(false, false));
  TRY(open_those(true, false));
  return opened;
}

void open_switched_fifos(TreeCapture& capture, const TreeImage& image, const std::set<int>& switched, int m1_root,
                         int self_fd_dir, std::map<std::uint32_t, UniqueFd>& opened, std::vector<Notice>& failures) {
  const auto move_one = [&](const PipeHandle* pipe, const std::vector<std::uint32_t>& ends,
                            const Holder& holder) -> Result<void> {
    const HeldProcess* held = capture.find(holder.process->incarnation);
    if (held == nullptr) return make_error(Code::kInternal, "a FIFO of nobody");
    const UniqueFd old_end = TRY(sys::pidfd_get_fd(held->live->pidfd.get(), holder.fd));
    FifoContents contents;
    if (const PipeContents* known = contents_of(image, pipe)) {
      contents.capacity_bytes = known->capacity_bytes;
      contents.waits = !known->bytes.empty();
    }
    contents.fill = [&](int write_end) { return tee_all(self_fd_dir, old_end.get(), write_end); };
    opened.merge(TRY(open_fifo(image, ends, m1_root, self_fd_dir, contents)));
    return {};
  };
  const Fifos fifos = fifos_among(image, [&](std::uint32_t index) {
    const Description& description = image.descriptions[index];
    return description.is_fifo_at_path() && switched.contains(description.volume);
  });
  for (const auto& [pipe, ends] : fifos) {
    // Whom it signals is not known; the capture has said so.
    const bool signals = std::any_of(ends.begin(), ends.end(), [&](std::uint32_t end) {
      return (image.descriptions[end].status_flags & O_ASYNC) != 0;
    });
    const std::optional<Holder> holder = holder_of(image, ends.front());
    if (signals || !holder) continue;
    const Result<void> moved = move_one(pipe, ends, *holder);
    if (moved.ok()) continue;
    failures.push_back({holder->process->pid.value, "fifo",
                        "descriptor " + std::to_string(holder->fd) +
                            ": its path does not lead to it any more: " + moved.error().describe()});
  }
}

std::set<const PipeHandle*> make_fifos(const TreeImage& target, const std::vector<std::uint32_t>& make,
                                       const std::set<int>& switched, int m1_root, int self_fd_dir,
                                       std::map<std::uint32_t, UniqueFd>& made, std::vector<UnmadeFifo>& unmade) {
  const std::set<std::uint32_t> to_make(make.begin(), make.end());
  std::set<const PipeHandle*> filled;
  for (const auto& [pipe, ends] : fifos_among(target, [&](std::uint32_t index) { return to_make.contains(index); })) {
    const Description& any = target.descriptions[ends.front()];
    // Nobody has it open yet. Elsewhere one that somebody still has is corrected when all have the target's ends.
    const bool is_fresh = any.is_fifo_at_path() && switched.contains(any.volume);
    const PipeContents* wanted = contents_of(target, pipe);
    FifoContents contents;
    if (is_fresh && wanted != nullptr) {
      contents.capacity_bytes = wanted->capacity_bytes;
      contents.waits = !wanted->bytes.empty();
      contents.fill = [&](int write_end) { return fill_pipe(write_end, *wanted); };
    }
    Result<std::map<std::uint32_t, UniqueFd>> opened = open_fifo(target, ends, m1_root, self_fd_dir, contents);
    if (!opened.ok()) {
      unmade.push_back({ends, opened.release_error()});
      continue;
    }
    made.merge(opened.value());
    if (is_fresh) filled.insert(pipe);
  }
  return filled;
}

Result<void> correct_pipe(const TreeImage& live, const TreeImage& target, const PipeContents& wanted, int m1_root,
                          int self_fd_dir) {
  const auto fifo = std::find_if(target.descriptions.begin(), target.descriptions.end(), [&](const Description& one) {
    return one.is_fifo_at_path() && one.pipe == wanted.pipe;
  });
  const bool is_at_path = fifo != target.descriptions.end();
  const PipeHandle* pipe = wanted.pipe.get();
  if (is_at_path) {
    const auto present = std::find_if(live.descriptions.begin(), live.descriptions.end(), [&](const Description& one) {
      return one.is_fifo_at_path() && one.path == fifo->path;
    });
    pipe = present != live.descriptions.end() ? present->pipe.get() : nullptr;
  }
  const PipeContents* present = contents_of(live, pipe);
  const bool holds_same = present != nullptr && present->holds_same(wanted);
  if (holds_same && present->capacity_bytes == wanted.capacity_bytes) return {};
  const UniqueFd node = is_at_path ? TRY(open_node(fifo->path, m1_root)) : UniqueFd();
  const int path_fd = is_at_path ? node.get() : wanted.pipe->path_fd.get();
  if (!holds_same) TRY(replace_pipe_contents(self_fd_dir, path_fd, wanted));
  return set_pipe_capacity(self_fd_dir, path_fd, wanted.capacity_bytes);
}

}  // namespace deltabox
