#include "deltacr/capture.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <string>

#include "base/clock.h"
#include "deltacr/address_space.h"
#include "deltacr/describe.h"
#include "deltacr/memory.h"
#include "sys/files.h"
#include "tracee/proc_files.h"

namespace deltabox {

namespace {

constexpr int kFiltersOfSandbox = 1;
constexpr std::uint64_t kParasiteFirst = 0x3000'0000'0000;  // between where loaders put programs and libraries
constexpr std::uint64_t kParasiteStep = 0x10'0000'0000;
constexpr int kParasiteTries = 64;

Error unsupported(const LiveProcess& live, const std::string& kind, const std::string& reason, std::string next_step) {
  const int pid = live.inside.value;
  Error error = make_error(Code::kUnsupported, "process " + std::to_string(pid) + ": " + reason, std::move(next_step));
  error.details.push_back({pid, kind, reason});
  return error;
}

std::string strip_deleted(const std::string& link, bool& deleted) {
  constexpr std::string_view kDeleted = " (deleted)";
  deleted = link.ends_with(kDeleted);
  return deleted ? link.substr(0, link.size() - kDeleted.size()) : link;
}

}  // namespace

TreeCapture::TreeCapture(int proc_fd, Freeze& freeze, ProcessRegistry& registry, PageStore& store,
                         DescriptorReader& descriptors, DeletedFileReader& deleted_files,
                         SharedMemoryReader& shared_memory)
    : proc_fd_(proc_fd),
      freeze_(freeze),
      registry_(registry),
      store_(store),
      descriptors_(descriptors),
      deleted_files_(deleted_files),
      shared_memory_(shared_memory) {}

HeldProcess* TreeCapture::find(Incarnation incarnation) {
  const auto found = std::find_if(held_.begin(), held_.end(),
                                  [&](const HeldProcess& held) { return held.live->incarnation == incarnation; });
  return found != held_.end() ? &*found : nullptr;
}

void TreeCapture::forget(Incarnation incarnation) {
  const auto found = std::find_if(held_.begin(), held_.end(),
                                  [&](const HeldProcess& held) { return held.live->incarnation == incarnation; });
  if (found == held_.end()) return;
  found->session.abandon();
  held_.erase(found);
}

void TreeCapture::abandon() {
  for (HeldProcess& held : held_) held.session.abandon();
  held_.clear();
}

Result<void> TreeCapture::release() {
  Result<void> outcome;
  for (HeldProcess& held : held_) {
    Result<void> finished = held.session.finish();
    if (!finished.ok() && finished.error().code != Code::kTraceeGone) outcome = std::move(finished);
  }
  held_.clear();
  return outcome;
}

Result<void> TreeCapture::hold(FrozenProcess& frozen) {
  LiveProcess* live = TRY(registry_.find_or_add(frozen.pid));
  held_.push_back(HeldProcess{&frozen, live, TRY(parasite::Session::begin(frozen.threads.front().tid))});
  return {};
}

Result<void> TreeCapture::check_supported(const FrozenProcess& frozen, const LiveProcess& live,
                                          const MappingList& mappings, ProcessImage& image,
                                          std::vector<Notice>& warnings) {
  const TaskStatus status = TRY(task_status(proc_fd_, frozen.pid));
  image.umask = status.umask;
  if (status.seccomp_filters > kFiltersOfSandbox) {
    return unsupported(live, "seccomp", "it runs under a seccomp filter of its own",
                       "End the process, then try again.");
  }
  if ((status.ignored_signals >> (SIGTRAP - 1) & 1) != 0) {
    return unsupported(live, "signal", "it ignores SIGTRAP, by which a capture ends",
                       "End the process, then try again.");
  }
  bool reported_shared = false;
  for (const Mapping& mapping : mappings) {
    if (!mapping.shared || mapping.is_kernel_provided()) continue;
    if (mapping.volume >= 0 || mapping.shared_object != 0) continue;  // its contents are the file's, or the object's
    if ((mapping.protection & PROT_WRITE) != 0 && !reported_shared) {
      reported_shared = true;
      warnings.push_back({live.inside.value, "shared-memory",
                          (mapping.name.empty() ? std::string("shared memory") : mapping.name) +
                              ": its contents are not captured and stay as they are"});
    }
  }
  const Result<std::string> timers =
      sys::read_file_at(proc_fd_, std::to_string(frozen.pid.value) + "/timers", 1u << 20);
  if (timers.ok() && !timers.value().empty()) {
    warnings.push_back({live.inside.value, "posix-timer", "its POSIX timers are not captured and stay as they are"});
  }
  return {};
}

// Which mappings are of files on the overlays in place, and what these files are called now; shared ones move with
// their volume.
Result<void> TreeCapture::find_volumes(HostTid pid, std::shared_ptr<const MappingList>& mappings) const {
  std::shared_ptr<MappingList> marked;
  UniqueFd maps;
  for (std::size_t index = 0; index < mappings->size(); ++index) {
    Mapping mapping = (*mappings)[index];
    if (!mapping.has_file()) continue;
    const auto on = std::find_if(volumes_.begin(), volumes_.end(),
                                 [&](const VolumeView& volume) { return volume.device == mapping.device; });
    if (on == volumes_.end()) {
      mapping.shared_object = shared_memory_.object_of(mapping);
      if (mapping.shared_object == (*mappings)[index].shared_object) continue;
      if (!marked) marked = std::make_shared<MappingList>(*mappings);
      (*marked)[index] = std::move(mapping);
      continue;
    }
    // Most files that programs map are those of /usr: without a change of the volume their names stay.
    if (!mapping.shared && !on->changed && mapping.overlay == on->overlay) continue;
    if (!maps) maps = TRY(sys::open_at(proc_fd_, std::to_string(pid.value) + "/maps", O_RDONLY));
    mapping.name = TRY(current_name(maps.get(), mapping.range.start));
    mapping.overlay = on->overlay;
    if (mapping.shared) {
      mapping.volume = static_cast<int>(on - volumes_.begin());
      const std::string relative = mapping.name.substr(std::min(mapping.name.size(), on->path.size() + 1));
      struct stat info {};
      mapping.in_writable_layer = ::fstatat(on->writable_layer, relative.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0;
    }
    if (mapping == (*mappings)[index]) continue;
    if (!marked) marked = std::make_shared<MappingList>(*mappings);
    (*marked)[index] = std::move(mapping);
  }
  if (marked) mappings = std::move(marked);
  return {};
}

// A process seen for the first time, or one that called exec, has no parasite and no tracker yet. A forked child has
// neither (MADV_DONTFORK; userfaultfd registrations are not inherited).
Result<void> TreeCapture::ensure_parasite(HeldProcess& held, std::shared_ptr<const MappingList>& mappings) {
  LiveProcess& live = *held.live;
  if (live.site.mapping.value != 0) {
    const Mapping* found = find_mapping(*mappings, live.site.mapping.value);
    if (found != nullptr && found->range == parasite_range(live) && !found->has_file() && !found->shared &&
        found->protection == (PROT_READ | PROT_WRITE | PROT_EXEC)) {
      return {};
    }
  }
  ++live.address_space;
  live.site = {};
  live.tracker.reset();
  live.pages = PageMap();
  live.mappings.reset();
  const auto vdso =
      std::find_if(mappings->begin(), mappings->end(), [](const Mapping& mapping) { return mapping.name == "[vdso]"; });
  if (vdso == mappings->end()) return unsupported(live, "vdso", "it has unmapped its vdso", "End the process.");
  live.site.vdso_syscall = RemoteAddress{vdso->range.start + TRY(parasite::vdso_syscall_offset())};
  Result<void> installed = make_error(Code::kInternal, "no free address for the parasite");
  for (int attempt = 0; attempt < kParasiteTries && !installed.ok(); ++attempt) {
    const std::uint64_t address = kParasiteFirst + static_cast<std::uint64_t>(attempt) * kParasiteStep;
    installed = held.session.install(live.site, RemoteAddress{address});
    if (!installed.ok() && installed.error().os_errno != EEXIST) return installed;
  }
  TRY(std::move(installed));
  live.tracker = TRY(MemoryTracker::create(held.session, live.site, live.pidfd.get()));
  mappings = TRY(list_mappings(proc_fd_, live.pid, mappings));
  return {};
}

Result<void> TreeCapture::capture_process(HeldProcess& held, CaptureResult& result) {
  Stopwatch watch;
  LiveProcess& live = *held.live;
  ProcessImage image;
  std::shared_ptr<const MappingList> mappings = TRY(list_mappings(proc_fd_, live.pid, live.mappings));
  TRY(find_volumes(live.pid, mappings));
  // Before anything runs in it: a run ends by SIGTRAP, which the kernel would reset where it is ignored.
  TRY(check_supported(*held.frozen, live, *mappings, image, result.warnings));
  TRY(ensure_parasite(held, mappings));
  TRY(find_volumes(live.pid, mappings));
  Error failure;
  const std::vector<int> fds = descriptors_.open_fds(live.pid, &failure);
  if (!failure.operation.empty()) return failure;
  image.incarnation = live.incarnation;
  image.address_space = live.address_space;
  image.host_pid = live.pid;
  image.pid = live.inside;
  TRY(describe_process(held.session, live, freeze_.timed_calls(), *held.frozen, fds, image));
  TRY(descriptors_.read_process(live.pid, live.pidfd.get(), image, result.warnings));
  Result<std::string> link = sys::read_link_at(proc_fd_, std::to_string(live.pid.value) + "/cwd");
  if (link.ok()) {
    image.working_dir = strip_deleted(link.value(), image.working_dir_deleted);
  } else if (link.error().os_errno == ENAMETOOLONG) {
    // No path leads there; it stays as a removed directory would.
    image.working_dir_deleted = true;
    result.warnings.push_back({image.pid.value, "working-directory", "its path is longer than 4,096 bytes"});
  } else {
    return link.release_error();
  }
  for (std::size_t index = 0; index < volumes_.size(); ++index) {
    const std::string& path = volumes_[index].path;
    if (image.working_dir == path || image.working_dir.starts_with(path + "/")) {
      image.working_dir_volume = static_cast<int>(index);
    }
  }
  result.times.describe_us += watch.lap_us();
  MemoryTimes memory_times;
  const MemoryCapture memory = TRY(capture_memory(proc_fd_, live, std::move(mappings), store_, memory_times));
  result.times.scan_us += memory_times.scan_us;
  result.times.copy_us += memory_times.copy_us;
  image.mappings = live.mappings;
  image.pages = live.pages;
  result.dirty_pages += memory.dirty_pages;
  result.stored_pages += memory.stored_pages;
  result.threads += image.threads.size();
  result.image->processes.push_back(std::move(image));
  return {};
}

Result<CaptureResult> TreeCapture::run(std::vector<VolumeView> volumes, const BoundaryPipes& boundary) {
  CaptureResult result;
  result.image = std::make_shared<TreeImage>();
  volumes_ = volumes;
  std::vector<HostTid> present;
  for (const FrozenProcess& frozen : freeze_.processes()) present.push_back(frozen.pid);
  registry_.keep_only(present);
  held_.reserve(freeze_.processes().size());
  for (FrozenProcess& frozen : freeze_.processes()) {
    TRY(hold(frozen));
    LiveProcess& live = *held_.back().live;
    if (live.inside.value == 0) live.inside = TRY(task_status(proc_fd_, frozen.pid)).inside;
  }
  deleted_files_.begin(volumes);
  shared_memory_.begin();
  descriptors_.begin(std::move(volumes), &boundary, result.image.get());
  for (HeldProcess& held : held_) TRY(capture_process(held, result));
  TRY(descriptors_.find_watched());
  TRY(descriptors_.read_pipe_contents());
  TRY(deleted_files_.read(*result.image));
  TRY(shared_memory_.read(*result.image, *this, store_));
  for (const ZombieProcess& zombie : freeze_.zombies()) result.image->zombies.push_back(zombie.inside.value);
  return result;
}

}  // namespace deltabox
