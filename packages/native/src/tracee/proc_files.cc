#include "tracee/proc_files.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <sstream>
#include <string_view>

#include "sys/files.h"

namespace deltabox {

namespace {

constexpr std::size_t kMaxFileBytes = 1u << 22;
// The kernel writes such a file in whole records, as many as fit into a page of 4,096 bytes; a record is shorter than
// this. What is shorter than the rest of the page has nothing behind it, and the second system call is saved.
constexpr std::size_t kSurelyAllBytes = 2048;

std::string task_dir(HostTid pid, HostTid tid) {
  return std::to_string(pid.value) + "/task/" + std::to_string(tid.value);
}

// /proc files of one task: a single read fits most, and saves the second system call in a pause.
Result<std::string> read_small(int proc_fd, const std::string& path) {
  UniqueFd fd = TRY(sys::open_at(proc_fd, path, O_RDONLY));
  return read_from_start(fd.get());
}

std::vector<HostTid> parse_children(const std::string& text) {
  std::vector<HostTid> children;
  const char* cursor = text.data();
  const char* const end = cursor + text.size();
  while (cursor < end) {
    int child = 0;
    const auto [next, error] = std::from_chars(cursor, end, child);
    if (error != std::errc()) break;
    children.push_back(HostTid{child});
    cursor = next + 1;
  }
  return children;
}

// The rest of the line that starts with `key` in /proc/PID/status.
std::string_view status_line(std::string_view text, std::string_view key) {
  const std::size_t at = text.find(key);
  if (at == std::string_view::npos) return {};
  const std::size_t start = at + key.size();
  return text.substr(start, text.find('\n', start) - start);
}

// The last number of the line, which is that of the innermost pid namespace.
int innermost(std::string_view text, std::string_view key) {
  const std::string_view ids = status_line(text, key);
  const std::size_t last = ids.find_last_of("\t ");
  return last != std::string_view::npos ? std::atoi(ids.data() + last + 1) : 0;
}

// Numbers that are separated by spaces.
std::vector<std::uint32_t> parse_ids(std::string_view text) {
  std::vector<std::uint32_t> ids;
  while (!text.empty()) {
    std::uint32_t id = 0;
    const auto [next, error] = std::from_chars(text.data(), text.data() + text.size(), id);
    if (error != std::errc()) break;
    ids.push_back(id);
    text.remove_prefix(std::min(text.size(), static_cast<std::size_t>(next - text.data()) + 1));
  }
  return ids;
}

TaskStatus parse_status(std::string_view text) {
  TaskStatus status;
  status.inside = InsidePid{innermost(text, "NSpid:")};
  status.process_group = innermost(text, "NSpgid:");
  status.session = innermost(text, "NSsid:");
  status.tracer = HostTid{std::atoi(status_line(text, "TracerPid:").data())};
  const std::string_view filters = status_line(text, "Seccomp_filters:");
  if (!filters.empty()) status.seccomp_filters = std::atoi(filters.data());
  const std::string_view bounding = status_line(text, "CapBnd:");
  if (!bounding.empty()) status.bounding_capabilities = std::strtoull(bounding.data(), nullptr, 16);
  const std::string_view ambient = status_line(text, "CapAmb:");
  if (!ambient.empty()) status.ambient_capabilities = std::strtoull(ambient.data(), nullptr, 16);
  status.groups = parse_ids(status_line(text, "Groups:\t"));
  const std::string_view ignored = status_line(text, "SigIgn:");
  if (!ignored.empty()) status.ignored_signals = std::strtoull(ignored.data(), nullptr, 16);
  const std::string_view caught = status_line(text, "SigCgt:");
  if (!caught.empty()) status.caught_signals = std::strtoull(caught.data(), nullptr, 16);
  const std::string_view umask = status_line(text, "Umask:\t");
  if (!umask.empty()) status.umask = static_cast<std::uint32_t>(std::strtoul(umask.data(), nullptr, 8));
  const std::string_view state = status_line(text, "State:\t");
  if (!state.empty()) status.state = state.front();
  return status;
}

}  // namespace

Result<std::string> read_from_start(int fd) {
  char buffer[8192];
  std::string text;
  for (;;) {
    const ssize_t count = ::pread(fd, buffer, sizeof buffer, static_cast<off_t>(text.size()));
    if (count < 0) return os_error("pread", "/proc");
    text.append(buffer, static_cast<std::size_t>(count));
    if (text.size() > kMaxFileBytes) return make_error(Code::kTooLarge, "a file of /proc is longer than 4 MiB");
    if (static_cast<std::size_t>(count) < kSurelyAllBytes) return text;
  }
}

Result<std::vector<HostTid>> threads_of(int proc_fd, HostTid pid) {
  UniqueFd dir = TRY(sys::open_at(proc_fd, std::to_string(pid.value) + "/task", O_RDONLY | O_DIRECTORY));
  return read_threads(dir.get(), pid);
}

Result<std::vector<HostTid>> read_threads(int task_dir_fd, HostTid pid) {
  std::vector<HostTid> threads;
  for (const int tid : TRY(sys::list_numeric_dir(task_dir_fd))) threads.push_back(HostTid{tid});
  // Ids are recycled, so a thread's may be lower than its leader's.
  const auto leader = std::find(threads.begin(), threads.end(), pid);
  if (leader != threads.end()) std::rotate(threads.begin(), leader, leader + 1);
  return threads;
}

Result<std::vector<HostTid>> children_of(int proc_fd, HostTid pid, HostTid tid) {
  return parse_children(TRY(read_small(proc_fd, task_dir(pid, tid) + "/children")));
}

Result<std::vector<HostTid>> read_children(int children_fd) {
  return parse_children(TRY(read_from_start(children_fd)));
}

Result<TaskStatus> task_status(int proc_fd, HostTid pid) {
  return parse_status(TRY(read_small(proc_fd, std::to_string(pid.value) + "/status")));
}

Result<TaskStatus> read_task_status(int status_fd) { return parse_status(TRY(read_from_start(status_fd))); }

namespace {

// The name in parentheses may contain anything; the state follows the last one.
std::vector<std::string> fields_of(const Result<std::string>& stat) {
  std::vector<std::string> fields;
  const std::size_t close = stat.ok() ? stat.value().rfind(')') : std::string::npos;
  if (close == std::string::npos) return fields;
  std::istringstream words(stat.value().substr(close + 1));
  for (std::string word; words >> word;) fields.push_back(word);
  return fields;
}

}  // namespace

char task_state(int proc_fd, HostTid pid, HostTid tid) {
  const Result<std::string> text = read_small(proc_fd, task_dir(pid, tid) + "/stat");
  if (!text.ok()) return 'X';
  const std::vector<std::string> fields = fields_of(text);
  return fields.empty() ? '?' : fields[0][0];
}

bool task_is_exiting(int proc_fd, HostTid pid, HostTid tid) {
  constexpr std::size_t kFlags = 9 - 3;
  constexpr unsigned long kExiting = 0x4;  // PF_EXITING
  const std::vector<std::string> fields = fields_of(read_small(proc_fd, task_dir(pid, tid) + "/stat"));
  return fields.size() <= kFlags || (std::stoul(fields[kFlags]) & kExiting) != 0;
}

std::vector<std::string> stat_fields(int proc_fd, HostTid pid) {
  return fields_of(read_small(proc_fd, std::to_string(pid.value) + "/stat"));
}

int exit_status(int proc_fd, HostTid pid) {
  constexpr std::size_t kExitCode = 52 - 3;
  const std::vector<std::string> fields = stat_fields(proc_fd, pid);
  return fields.size() > kExitCode ? std::atoi(fields[kExitCode].c_str()) : 0;
}

std::vector<HostTid> descendants_of(int proc_fd, HostTid root) {
  constexpr std::size_t kMost = 65'536;
  std::vector<HostTid> queue{root};
  for (std::size_t index = 0; index < queue.size() && queue.size() < kMost; ++index) {
    const Result<std::vector<HostTid>> threads = threads_of(proc_fd, queue[index]);
    if (!threads.ok()) continue;
    for (const HostTid tid : threads.value()) {
      const Result<std::vector<HostTid>> children = children_of(proc_fd, queue[index], tid);
      if (children.ok()) queue.insert(queue.end(), children.value().begin(), children.value().end());
    }
  }
  queue.erase(queue.begin());
  return queue;
}

}  // namespace deltabox
