// Probes of how written pages and mappings of a task are found.
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "doctor/actors.h"
#include "doctor/probe.h"
#include "sys/files.h"
#include "sys/kernel_abi.h"
#include "sys/processes.h"

namespace deltabox::doctor {

namespace {

constexpr std::uint64_t kPages = 16;
// One written by the task itself, one by the kernel on its behalf, which a user-mode-only userfaultfd must see as well.
constexpr std::uint64_t kStoredPage = 3;
constexpr std::uint64_t kReceivedPage = 7;

// Says the address of its pages and the number of its userfaultfd, then writes two pages when asked.
void own_pages(int socket_fd) {
  void* mapped = ::mmap(nullptr, kPages * kPageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return say_to_prober(socket_fd, -errno);
  auto* bytes = static_cast<volatile char*>(mapped);
  for (std::uint64_t page = 0; page < kPages; ++page) bytes[page * kPageSize] = 1;
  say_to_prober(socket_fd, reinterpret_cast<std::int64_t>(mapped));
  const long fd = ::syscall(SYS_userfaultfd, O_CLOEXEC | abi::kUffdUserModeOnly);
  say_to_prober(socket_fd, fd < 0 ? -errno : fd);
  wait_for_prober(socket_fd);
  bytes[kStoredPage * kPageSize] = 2;
  char* buffer = static_cast<char*>(mapped) + kReceivedPage * kPageSize;
  say_to_prober(socket_fd, ::recv(socket_fd, buffer, sizeof(std::int64_t), 0) < 0 ? -errno : 0);
  wait_for_prober(socket_fd);
}

struct WatchedTask {
  ProbeTask task;
  AddressRange range;
  UniqueFd userfaultfd;
};

// A task with pages whose userfaultfd is in our hands, write protection switched on.
Result<WatchedTask> watch_task(const Context& context) {
  ProbeTask task = TRY(ProbeTask::start(context, ProbeTask::Ids::kIdentity, 0, own_pages));
  const auto start = static_cast<std::uint64_t>(TRY(task.hear("mmap")));
  const AddressRange range{start, start + kPages * kPageSize};
  const auto remote_fd = static_cast<int>(TRY(task.hear("userfaultfd(UFFD_USER_MODE_ONLY)")));
  const UniqueFd pidfd = TRY(sys::pidfd_open(task.tid()));
  UniqueFd userfaultfd = TRY(sys::pidfd_get_fd(pidfd.get(), remote_fd));
  uffdio_api api{};
  api.api = UFFD_API;
  api.features = abi::kUffdFeatureWpAsync | abi::kUffdFeatureWpUnpopulated;
  if (::ioctl(userfaultfd.get(), UFFDIO_API, &api) != 0) {
    return os_error("UFFDIO_API", "asynchronous write protection");
  }
  uffdio_register request{};
  request.range.start = range.start;
  request.range.len = range.size_bytes();
  request.mode = UFFDIO_REGISTER_MODE_WP;
  if (::ioctl(userfaultfd.get(), UFFDIO_REGISTER, &request) != 0) {
    return os_error("UFFDIO_REGISTER", "memory of another task");
  }
  return WatchedTask{std::move(task), range, std::move(userfaultfd)};
}

Result<std::string> probe_userfaultfd(const Context& context) {
  return as_engine(context, [&]() -> Result<std::string> {
    TRY(watch_task(context));
    return std::string("made in a task, taken, and its memory registered for asynchronous write protection");
  });
}

// The written pages of the range, as numbers within it; protects them again when `protect`.
Result<std::vector<std::uint64_t>> written_pages(int pagemap_fd, AddressRange range, bool protect) {
  abi::PageRegion regions[kPages] = {};
  abi::PmScanArg argument{};
  argument.size = sizeof argument;
  argument.flags = abi::kPmScanCheckWpAsync | (protect ? abi::kPmScanWpMatching : 0);
  argument.start = range.start;
  argument.end = range.end;
  argument.vec = reinterpret_cast<std::uint64_t>(regions);
  argument.vec_len = kPages;
  argument.category_mask = abi::kPageIsWritten;
  argument.return_mask = abi::kPageIsWritten;
  const int count = ::ioctl(pagemap_fd, abi::kPagemapScan, &argument);
  if (count < 0) return os_error("PAGEMAP_SCAN");
  std::vector<std::uint64_t> pages;
  for (int index = 0; index < count; ++index) {
    for (std::uint64_t at = regions[index].start; at < regions[index].end; at += kPageSize) {
      pages.push_back((at - range.start) >> kPageShift);
    }
  }
  return pages;
}

Result<std::string> probe_pagemap_scan(const Context& context) {
  return as_engine(context, [&]() -> Result<std::string> {
    ProbeTask task = TRY(ProbeTask::start(context, ProbeTask::Ids::kIdentity, 0, own_pages));
    const auto start = static_cast<std::uint64_t>(TRY(task.hear("mmap")));
    const UniqueFd pagemap =
        TRY(sys::open_at(context.proc.get(), std::to_string(task.tid().value) + "/pagemap", O_RDONLY));
    abi::PageRegion regions[kPages] = {};
    abi::PmScanArg argument{};
    argument.size = sizeof argument;
    argument.start = start;
    argument.end = start + kPages * kPageSize;
    argument.vec = reinterpret_cast<std::uint64_t>(regions);
    argument.vec_len = kPages;
    argument.category_mask = abi::kPageIsPresent;
    argument.return_mask = abi::kPageIsPresent;
    const int count = ::ioctl(pagemap.get(), abi::kPagemapScan, &argument);
    if (count < 0) return os_error("PAGEMAP_SCAN");
    if (count != 1 || regions[0].start != start || regions[0].end != argument.end) {
      return make_error(Code::kInternal, "the pages reported are not those of the task");
    }
    return std::string("the pages of a task reported");
  });
}

Result<std::string> probe_write_tracking(const Context& context) {
  return as_engine(context, [&]() -> Result<std::string> {
    WatchedTask watched = TRY(watch_task(context));
    const std::string path = std::to_string(watched.task.tid().value) + "/pagemap";
    const UniqueFd pagemap = TRY(sys::open_at(context.proc.get(), path, O_RDONLY));
    if (TRY(written_pages(pagemap.get(), watched.range, true)).size() != kPages) {
      return make_error(Code::kInternal, "pages that were never protected do not count as written");
    }
    if (!TRY(written_pages(pagemap.get(), watched.range, false)).empty()) {
      return make_error(Code::kInternal, "pages count as written right after they were protected");
    }
    TRY(watched.task.say(0));
    TRY(watched.task.ask("a receive into a protected page"));
    const std::vector<std::uint64_t> expected{kStoredPage, kReceivedPage};
    if (TRY(written_pages(pagemap.get(), watched.range, false)) != expected) {
      return make_error(Code::kInternal, "the pages reported are not those that were written");
    }
    return std::string("exactly the written pages reported, those written by the kernel included");
  });
}

Result<std::string> probe_procmap_query(const Context& context) {
  return as_engine(context, [&]() -> Result<std::string> {
    ProbeTask task = TRY(ProbeTask::start(context, ProbeTask::Ids::kIdentity, 0, own_pages));
    const auto start = static_cast<std::uint64_t>(TRY(task.hear("mmap")));
    const UniqueFd maps = TRY(sys::open_at(context.proc.get(), std::to_string(task.tid().value) + "/maps", O_RDONLY));
    abi::ProcmapQuery query{};
    query.size = sizeof query;
    query.query_addr = start;
    if (::ioctl(maps.get(), abi::kProcmapQuery, &query) != 0) return os_error("PROCMAP_QUERY");
    // Neighbouring anonymous mappings are merged, so only the inclusion is known.
    const std::uint64_t readable_writable = abi::kProcmapVmaReadable | abi::kProcmapVmaWritable;
    if (query.vma_start > start || query.vma_end < start + kPages * kPageSize || query.vma_flags != readable_writable) {
      return make_error(Code::kInternal, "PROCMAP_QUERY describes another mapping");
    }
    return std::string("a mapping of another task found by address");
  });
}

}  // namespace

std::vector<Probe> memory_probes() {
  return {
      {"pagemap-scan", Topic::kMemory, true, "user-namespaces", probe_pagemap_scan},
      // Without these two memory is compared at each checkpoint.
      {"userfaultfd", Topic::kMemory, false, "pidfd-getfd", probe_userfaultfd},
      {"write-tracking", Topic::kMemory, false, "userfaultfd", probe_write_tracking},
      {"procmap-query", Topic::kMemory, true, "user-namespaces", probe_procmap_query},
  };
}

}  // namespace deltabox::doctor
