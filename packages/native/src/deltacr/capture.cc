#include "deltacr/capture.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <string>

#include "base/clock.h"
#include "base/side_by_side.h"
#include "deltacr/address_space.h"
#include "deltacr/describe.h"
#include "deltacr/memory.h"
#include "deltacr/program.h"
#include "sys/files.h"
#include "tracee/proc_files.h"
#include "tracee/raised_limit.h"

namespace deltabox {

namespace {

constexpr int kFiltersOfSandbox = 1;
// Those of a container around the engine, which its tasks have from it.
Result<int> filters_around(int proc_fd) {
  static std::optional<int> known;
  if (!known) known = TRY(task_status(proc_fd, HostTid{::getpid()})).seccomp_filters;
  return *known;
}

constexpr std::uint64_t kParasiteFirst = 0x3000'0000'0000;  // between where loaders put programs and libraries
constexpr std::uint64_t kParasiteStep = 0x10'0000'0000;
constexpr int kParasiteTries = 64;
constexpr std::uint64_t kParasiteGapBytes = 64u << 20;  // room for what grows on both sides of it
constexpr std::size_t kMostParasiteGaps = 64;
constexpr std::uint64_t kUserSpaceEnd = 0x7fff'ffff'f000;
// So many are described side by side, and so many keep their files of /proc open between calls.
constexpr std::size_t kProcessesAtOnce = 64;

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

Result<void> read_oom_score(LiveProcess& live, ProcessImage& image) {
  const std::string text = TRY(read_from_start(TRY(live.files.get(ProcFile::kOomScore))));
  image.attributes.oom_score_adjustment = std::atoi(text.c_str());
  return {};
}

}  // namespace

TreeCapture::TreeCapture(int proc_fd, Freeze& freeze, ProcessRegistry& registry, PageStore& store,
                         DescriptorReader& descriptors, DeletedFileReader& deleted_files,
                         SharedMemoryReader& shared_memory, SocketReader& sockets, PastOverlays& overlays)
    : proc_fd_(proc_fd),
      freeze_(freeze),
      registry_(registry),
      store_(store),
      descriptors_(descriptors),
      deleted_files_(deleted_files),
      shared_memory_(shared_memory),
      sockets_(sockets),
      overlays_(overlays) {}

TreeCapture::~TreeCapture() { (void)enter_pages(); }

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
  terminals_.end();
}

Result<void> TreeCapture::release() {
  terminals_.end();
  Result<void> outcome;
  for (HeldProcess& held : held_) {
    Result<void> finished = held.session.finish();
    if (!finished.ok() && finished.error().code != Code::kTraceeGone) outcome = std::move(finished);
  }
  held_.clear();
  return outcome;
}

Result<void> TreeCapture::hold(FrozenProcess& frozen) {
  LiveProcess* live = TRY(registry_.find_or_add(proc_fd_, frozen.pid));
  held_.push_back(HeldProcess{&frozen, live, TRY(parasite::Session::begin(frozen.threads.front().tid)), {}, {}, {}});
  return {};
}

Result<TaskStatus> TreeCapture::check_supported(LiveProcess& live, const MappingList& mappings,
                                                std::vector<Notice>& warnings) const {
  const TaskStatus status = TRY(read_task_status(TRY(live.files.get(ProcFile::kStatus))));
  if (status.seccomp_filters > TRY(filters_around(proc_fd_)) + kFiltersOfSandbox) {
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
  return status;
}

// Which mappings are of files on the overlays in place, and what these files are called now; shared ones move with
// their volume.
Result<void> TreeCapture::find_volumes(LiveProcess& live, std::shared_ptr<const MappingList>& mappings) const {
  std::shared_ptr<MappingList> marked;
  for (std::size_t index = 0; index < mappings->size(); ++index) {
    const Mapping& found = (*mappings)[index];
    if (!found.has_file()) continue;
    const auto on = std::find_if(volumes_.begin(), volumes_.end(),
                                 [&](const VolumeView& volume) { return volume.device == found.device; });
    if (on == volumes_.end()) {
      const SharedObjectId object = shared_memory_.object_of(found);
      const PastOverlays::Overlay* past = found.shared ? nullptr : overlays_.find(found.device, volumes_);
      const bool is_new_there = past != nullptr && found.overlay != past->serial;
      if (object == found.shared_object && !is_new_there) continue;
      if (!marked) marked = std::make_shared<MappingList>(*mappings);
      Mapping& mapping = (*marked)[index];
      mapping.shared_object = object;
      if (!is_new_there) continue;
      mapping.overlay = past->serial;
      mapping.name = past->path + mapping.name;
      continue;
    }
    // Most files that programs map are those of /usr: without a change of the volume their names stay.
    if (!found.shared && !on->changed && found.overlay == on->overlay) continue;
    Mapping mapping = found;
    mapping.name = TRY(current_name(TRY(live.files.get(ProcFile::kMappings)), mapping.range.start));
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
  // Without a tracker an earlier capture failed on its way here.
  if (live.site.mapping.value != 0 && live.tracker) {
    const Mapping* found = find_mapping(*mappings, live.site.mapping.value);
    if (found != nullptr && found->range == parasite_range(live) && !found->has_file() && !found->shared &&
        found->protection == (PROT_READ | PROT_WRITE | PROT_EXEC)) {
      return {};
    }
  }
  TRY(install_parasite(held, *mappings, {}));
  live.program = TRY(read_program_of(live));
  mappings = TRY(list_mappings(live.files, mappings));
  TRY(find_volumes(live, mappings));
  return {};
}

Result<std::shared_ptr<const ProgramImage>> TreeCapture::read_program_of(const LiveProcess& live) const {
  struct stat info {};
  if (::fstatat(proc_fd_, (std::to_string(live.pid.value) + "/exe").c_str(), &info, 0) != 0) {
    return os_error("fstatat", "/proc/PID/exe");
  }
  const PastOverlays::Overlay* past = overlays_.find(info.st_dev, volumes_);
  return read_program(proc_fd_, live.pid, past != nullptr ? past->path : "");
}

namespace {

// Usually the first is free. Where a sanitizer's shadow covers all of these: the middles of gaps, the largest first.
std::vector<std::uint64_t> parasite_places(const MappingList& live) {
  std::vector<std::uint64_t> places;
  for (int attempt = 0; attempt < kParasiteTries; ++attempt) {
    places.push_back(kParasiteFirst + static_cast<std::uint64_t>(attempt) * kParasiteStep);
  }
  std::vector<AddressRange> gaps;
  for (std::size_t index = 1; index < live.size(); ++index) {
    const AddressRange gap{live[index - 1].range.end, live[index].range.start};
    // The kernel's own page lies above all that can be mapped.
    if (gap.end < kUserSpaceEnd && gap.start < gap.end && gap.size_bytes() >= kParasiteGapBytes) gaps.push_back(gap);
  }
  std::sort(gaps.begin(), gaps.end(),
            [](const AddressRange& a, const AddressRange& b) { return a.size_bytes() > b.size_bytes(); });
  if (gaps.size() > kMostParasiteGaps) gaps.resize(kMostParasiteGaps);
  for (const AddressRange& gap : gaps) {
    places.push_back((gap.start + gap.size_bytes() / 2) & ~(std::uint64_t{kPageSize} - 1));
  }
  return places;
}

}  // namespace

Result<void> TreeCapture::install_parasite(HeldProcess& held, const MappingList& live_list, const MappingList& target) {
  LiveProcess& live = *held.live;
  live.address_space = registry_.new_address_space();
  live.site = {};
  live.tracker.reset();
  live.pages = PageMap();
  live.mappings.reset();
  const auto vdso =
      std::find_if(live_list.begin(), live_list.end(), [](const Mapping& mapping) { return mapping.name == "[vdso]"; });
  if (vdso == live_list.end()) return unsupported(live, "vdso", "it has unmapped its vdso", "End the process.");
  live.site.vdso_syscall = RemoteAddress{vdso->range.start + TRY(parasite::vdso_syscall_offset())};
  Result<void> installed = make_error(Code::kInternal, "no free address for the parasite");
  for (const std::uint64_t address : parasite_places(live_list)) {
    if (installed.ok()) break;
    const AddressRange range{address, address + parasite::kMappingBytes};
    if (std::any_of(target.begin(), target.end(), [&](const Mapping& mapping) {
          return mapping.range.start < range.end && range.start < mapping.range.end;
        })) {
      continue;
    }
    installed = held.session.install(live.site, RemoteAddress{address});
    if (!installed.ok() && installed.error().os_errno == EACCES) {
      return unsupported(live, "executable-memory",
                         "it may have no memory that can be written and executed (PR_SET_MDWE)",
                         "End the process, then try again.");
    }
    if (!installed.ok() && installed.error().os_errno != EEXIST) return installed;
  }
  TRY(std::move(installed));
  const RaisedDescriptorLimit limit(live.pid);
  Result<MemoryTracker> tracker = make_tracker(held);
  if (!tracker.ok() && tracker.error().os_errno == EMFILE) {
    return unsupported(live, "descriptors", "its table of descriptors is full up to its hard limit",
                       "Let it close one, or raise `limits.openFiles`.");
  }
  live.tracker = TRY(std::move(tracker));
  return {};
}

// One that compares, where there is no other way: slower, and right.
Result<MemoryTracker> TreeCapture::make_tracker(HeldProcess& held) {
  if (std::getenv("DELTABOX_COMPARE_MEMORY") != nullptr) {
    registry_.compare_because("DELTABOX_COMPARE_MEMORY is set");
    return MemoryTracker::comparing();
  }
  Result<MemoryTracker> tracker = MemoryTracker::create(held.session, held.live->site, held.live->pidfd.get());
  if (tracker.ok() || tracker.error().os_errno == EMFILE || tracker.error().os_errno == ENFILE) return tracker;
  registry_.compare_because(tracker.error().describe());
  return MemoryTracker::comparing();
}

Result<HeldProcess*> TreeCapture::hold_reborn(FrozenProcess& frozen, const ProcessImage& target) {
  forget(target.incarnation);
  LiveProcess* live = TRY(registry_.revive(proc_fd_, frozen.pid, target.pid, target.incarnation));
  held_.push_back(HeldProcess{&frozen, live, TRY(parasite::Session::begin(frozen.pid)), {}, {}, {}});
  HeldProcess& held = held_.back();
  const std::shared_ptr<const MappingList> mappings = TRY(list_mappings(live->files, nullptr));
  TRY(install_parasite(held, *mappings, *target.mappings));
  live->address_space = target.address_space;  // which it is about to become
  live->program = target.program;
  return &held;
}

Result<ProcessImage> TreeCapture::capture_reborn(HeldProcess& held) {
  CaptureResult result;
  LiveProcess& live = *held.live;
  held.mappings = TRY(list_mappings(live.files, live.mappings));
  ProcessImage image = TRY(begin_process(held, result));
  TRY(read_working_dir(image, result));
  TRY(read_oom_score(live, image));
  TRY(finish_describing(held.session, live, freeze_.timed_calls(), *held.frozen, held.trip, image));
  TRY(read_posix_timers(held.session, live, image));
  MemoryTimes times;
  const std::vector<ChangedRun> runs = TRY(changed_runs(live, *held.mappings));
  MemoryCapture memory = TRY(capture_memory(proc_fd_, live, std::move(held.mappings), runs, store_, nullptr, times));
  TRY(deltabox::enter_pages(proc_fd_, live, std::move(memory), store_));
  image.mappings = live.mappings;
  image.pages = live.pages;
  return image;
}

// What must be known before anything runs in it, and the start of its trip. The image has no descriptions and no memory
// yet.
Result<ProcessImage> TreeCapture::begin_process(HeldProcess& held, CaptureResult& result) {
  LiveProcess& live = *held.live;
  ProcessImage image;
  TRY(find_volumes(live, held.mappings));
  // Before anything runs in it: a run ends by SIGTRAP, which the kernel would reset where it is ignored.
  const TaskStatus status = TRY(check_supported(live, *held.mappings, result.warnings));
  TRY(ensure_parasite(held, held.mappings));
  const std::vector<int> fds = TRY(sys::list_numeric_dir(TRY(live.files.get(ProcFile::kDescriptors))));
  image.umask = status.umask;
  image.credentials.groups = status.groups;
  image.credentials.bounding = status.bounding_capabilities;
  image.credentials.ambient = status.ambient_capabilities;
  image.incarnation = live.incarnation;
  image.address_space = live.address_space;
  image.host_pid = live.pid;
  image.program = live.program;
  image.pid = live.inside;
  held.trip = TRY(start_describing(held.session, live, freeze_.timed_calls(), *held.frozen,
                                   status.caught_signals | status.ignored_signals, fds, image));
  return image;
}

Result<void> TreeCapture::read_working_dir(ProcessImage& image, CaptureResult& result) const {
  Result<std::string> link = sys::read_link_at(proc_fd_, std::to_string(image.host_pid.value) + "/cwd");
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
  return {};
}

Result<void> TreeCapture::read_memory(HeldProcess& held, std::size_t index, CaptureResult& result) {
  MemoryTimes times;
  MemoryCapture memory = TRY(capture_memory(proc_fd_, *held.live, std::move(held.mappings), held.runs, store_,
                                            parks_ ? &held.session : nullptr, times));
  result.times.scan_us += times.scan_us;
  result.times.copy_us += times.copy_us;
  if (memory.unreadable_pages > 0) {
    result.warnings.push_back({held.live->inside.value, "guard-pages",
                               std::to_string(memory.unreadable_pages) +
                                   " pages can't be read (MADV_GUARD_INSTALL): they stay as they are while their "
                                   "mapping does, and are plain memory where it is made anew"});
  }
  result.dirty_pages += memory.dirty_pages;
  result.parked_pages += memory.parked_addresses.size();
  result.threads += image_->processes[index].threads.size();
  image_->processes[index].mappings = held.live->mappings;
  unentered_.push_back({held.live, index, std::move(memory)});
  return {};
}

Result<std::uint64_t> TreeCapture::enter_pages() {
  std::uint64_t stored = 0;
  Result<void> outcome;
  for (Unentered& entry : unentered_) {
    Result<std::uint64_t> entered = deltabox::enter_pages(proc_fd_, *entry.live, std::move(entry.memory), store_);
    if (entered.ok()) {
      stored += entered.value();
    } else {
      outcome = entered.release_error();
    }
    image_->processes[entry.index].pages = entry.live->pages;
  }
  unentered_.clear();
  TRY(std::move(outcome));
  return stored;
}

// How many threads are worth it for what the kernel tells about one process while others are asked: nobody else needs
// the other processors in a pause.
std::uint64_t TreeCapture::threads_worth_it(std::size_t first, std::size_t last) const {
  std::uint64_t mappings = 0;
  for (std::size_t index = first; index < last; ++index) {
    const std::shared_ptr<const MappingList>& known = held_[index].live->mappings;
    mappings += known ? known->size() : 0;
  }
  return mappings / kMappingsWorthAThread;
}

// Those of held_[first, last). The trips inside go on while the engine reads what needs none.
Result<void> TreeCapture::capture_processes(std::size_t first, std::size_t last, CaptureResult& result) {
  Stopwatch watch;
  std::vector<ProcessImage>& images = image_->processes;
  const std::uint64_t threads = threads_worth_it(first, last);
  const auto list = [&](std::size_t begin, std::size_t end) -> Result<void> {
    for (std::size_t index = begin; index < end; ++index) {
      HeldProcess& held = held_[first + index];
      held.mappings = TRY(list_mappings(held.live->files, held.live->mappings));
    }
    return {};
  };
  if (threads > 1) TRY(side_by_side(last - first, 1, threads, list));
  for (std::size_t index = first; index < last; ++index) {
    // Alone, while the trips of those before it go on.
    if (threads <= 1) TRY(list(index - first, index - first + 1));
    images.push_back(TRY(begin_process(held_[index], result)));
  }
  std::vector<DescriptorReader::Table> tables;
  for (std::size_t index = first; index < last; ++index) {
    const LiveProcess& live = *held_[index].live;
    tables.push_back({live.pid, live.pidfd.get(), &images[index]});
  }
  TRY(descriptors_.read_tables(tables, result.warnings));
  for (std::size_t index = first; index < last; ++index) {
    TRY(read_oom_score(*held_[index].live, images[index]));
    TRY(read_working_dir(images[index], result));
  }
  for (std::size_t index = first; index < last; ++index) {
    HeldProcess& held = held_[index];
    TRY(finish_describing(held.session, *held.live, freeze_.timed_calls(), *held.frozen, held.trip, images[index]));
    TRY(read_posix_timers(held.session, *held.live, images[index]));
  }
  result.times.describe_us += watch.lap_us();
  // A copy would come to it as a child that it did not make.
  parks_ = parks_ && std::none_of(images.begin(), images.end(),
                                  [](const ProcessImage& image) { return image.attributes.child_subreaper != 0; });
  watch.lap_us();
  TRY(side_by_side(last - first, 1, threads, [&](std::size_t begin, std::size_t end) -> Result<void> {
    for (std::size_t index = begin; index < end; ++index) {
      HeldProcess& held = held_[first + index];
      held.runs = TRY(changed_runs(*held.live, *held.mappings));
    }
    return {};
  }));
  result.times.scan_us += watch.lap_us();
  for (std::size_t index = first; index < last; ++index) TRY(read_memory(held_[index], index, result));
  return {};
}

Result<CaptureResult> TreeCapture::run(std::vector<VolumeView> volumes, const BoundaryPipes& boundary,
                                       const TerminalTable& terminals) {
  Stopwatch watch;
  CaptureResult result;
  image_ = result.image = std::make_shared<TreeImage>();
  volumes_ = volumes;
  overlays_.note(volumes);
  std::vector<HostTid> present;
  for (const FrozenProcess& frozen : freeze_.processes()) present.push_back(frozen.pid);
  registry_.keep_only(present);
  held_.reserve(freeze_.processes().size());
  for (FrozenProcess& frozen : freeze_.processes()) {
    TRY(hold(frozen));
    LiveProcess& live = *held_.back().live;
    if (live.inside.value == 0) live.inside = TRY(read_task_status(TRY(live.files.get(ProcFile::kStatus)))).inside;
  }
  deleted_files_.begin(volumes);
  shared_memory_.begin();
  sockets_.begin(volumes);
  descriptors_.begin(std::move(volumes), &boundary, &terminals_, result.image.get());
  result.times.describe_us += watch.lap_us();
  for (std::size_t first = 0; first < held_.size(); first += kProcessesAtOnce) {
    const std::size_t last = std::min(held_.size(), first + kProcessesAtOnce);
    TRY(capture_processes(first, last, result));
    if (first == 0) continue;
    for (std::size_t index = first; index < last; ++index) held_[index].live->files.forget();
  }
  watch.lap_us();
  TRY(descriptors_.find_watched());
  TRY(descriptors_.read_pipe_contents());
  TRY(sockets_.read(*result.image, *this, result.warnings));
  terminals_.read(terminals, *result.image);
  TRY(deleted_files_.read(*result.image));
  TRY(shared_memory_.read(*result.image, *this, store_));
  for (const ZombieProcess& zombie : freeze_.zombies()) {
    result.image->zombies.push_back(
        {zombie.inside, zombie.parent_inside, zombie.session, zombie.process_group, zombie.exit_status});
  }
  result.times.describe_us += watch.lap_us();
  return result;
}

}  // namespace deltabox
