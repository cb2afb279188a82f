#include "deltacr/unseen_writes.h"

#include <fcntl.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <cstdlib>

#include "sys/files.h"
#include "sys/kernel_abi.h"
#include "tracee/proc_files.h"
#include "tracee/process_files.h"

namespace deltabox {

namespace {

constexpr std::size_t kNameBytes = 4096;
constexpr std::size_t kMaxInfoBytes = 4096;

void add(const std::string& path, std::set<std::string>& names) { names.insert(path.substr(path.rfind('/') + 1)); }

Result<void> add_mapped(ProcessFiles& files, std::set<std::string>& names) {
  const int maps_fd = TRY(files.get(ProcFile::kMappings));
  char name[kNameBytes];
  abi::ProcmapQuery query{};
  for (;;) {
    const std::uint64_t from = query.vma_end;
    query = {};
    query.size = sizeof query;
    query.query_flags = abi::kProcmapCoveringOrNext | abi::kProcmapFileBacked | abi::kProcmapVmaShared;
    query.query_addr = from;
    query.vma_name_size = kNameBytes;
    query.vma_name_addr = reinterpret_cast<std::uint64_t>(name);
    if (::ioctl(maps_fd, abi::kProcmapQuery, &query) != 0) {
      if (errno == ENOENT) return {};
      return os_error("PROCMAP_QUERY");
    }
    if (query.vma_name_size > 0) add(std::string(name, query.vma_name_size - 1), names);
  }
}

Result<void> add_direct(int proc_fd, HostTid pid, ProcessFiles& files, std::set<std::string>& names) {
  const std::string process = std::to_string(pid.value);
  for (const int fd : TRY(sys::list_numeric_dir(TRY(files.get(ProcFile::kDescriptors))))) {
    const std::string number = std::to_string(fd);
    const Result<std::string> path = sys::read_link_at(proc_fd, process + "/fd/" + number);
    // Pipes, sockets and the like have no path.
    if (!path.ok() || path.value().empty() || path.value().front() != '/') continue;
    const Result<std::string> info = sys::read_file_at(proc_fd, process + "/fdinfo/" + number, kMaxInfoBytes);
    if (!info.ok()) continue;  // closed since
    const std::size_t flags = info.value().find("flags:");
    if (flags == std::string::npos) continue;
    if ((std::strtoul(info.value().c_str() + flags + 6, nullptr, 8) & O_DIRECT) != 0) add(path.value(), names);
  }
  return {};
}

}  // namespace

Result<void> add_unseen_writes(int proc_fd, HostTid pid, std::set<std::string>& names) {
  ProcessFiles files(proc_fd, pid);
  Result<void> outcome = add_mapped(files, names);
  if (outcome.ok()) outcome = add_direct(proc_fd, pid, files, names);
  // After its leader's end a process can't be asked, though its other threads may go on.
  if (!task_is_exiting(proc_fd, pid, pid)) return outcome;
  const Result<std::vector<HostTid>> threads = threads_of(proc_fd, pid);
  if (!threads.ok() || threads.value().size() <= 1) return {};
  return make_error(Code::kUnsupported, "its leader has ended");
}

}  // namespace deltabox
