#include "engine/watches.h"

#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <set>

#include "engine/inside_paths.h"
#include "engine/sandbox_files.h"
#include "sys/files.h"

namespace deltabox {

namespace {

constexpr std::size_t kMaxWatches = 1024;
// Each costs some 10 µs of the pause of every checkpoint.
constexpr std::size_t kMaxDirectories = 8192;
constexpr std::uint32_t kMask = IN_CREATE | IN_DELETE | IN_MODIFY | IN_ATTRIB | IN_MOVED_FROM | IN_MOVED_TO |
                                IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR | IN_EXCL_UNLINK;

// More than the kernel's queue holds (16,384 events), so that one read in a pause leaves nothing; and an end, where
// programs go on making events meanwhile.
constexpr int kMaxReads = 128;

std::string join(const std::string& directory, const std::string& name) {
  return directory.empty() ? name : directory + "/" + name;
}

}  // namespace

Result<std::uint64_t> Watches::watch(ClientId client, const std::string& path, bool recursive) {
  TRY(check_path(path));
  if (watches_.size() >= kMaxWatches) {
    return make_error(Code::kTooLarge, "1,024 directories are watched, the most of one sandbox", "End some watches.");
  }
  TRY(start());
  const std::uint64_t id = next_++;
  watches_[id] = {client, path, recursive};
  Result<void> armed = recursive ? arm_tree({id, ""}, false) : arm({id, ""});
  if (armed.ok()) return id;
  unwatch(client, id);
  return armed.release_error();
}

Result<void> Watches::start() {
  if (inotify_) return {};
  inotify_ = UniqueFd(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (inotify_) return {};
  Error error = os_error("inotify_init1");
  if (errno == EMFILE) error.next_step = "Raise the sysctl fs.inotify.max_user_instances, or end other watches.";
  return error;
}

// inotify takes a path: the directory is opened below the sandbox's root, and named through /proc/self/fd.
Result<void> Watches::arm(const Place& place) {
  if (places_.size() >= kMaxDirectories) {
    return make_error(Code::kTooLarge, "8,192 directories are watched, the most of one sandbox",
                      "Watch fewer, or not recursively.");
  }
  const Watch& watch = watches_.at(place.watch);
  const std::string path = place.below.empty() ? watch.path : watch.path + "/" + place.below;
  // Below the watched directory no link is followed: it would be watched twice, or in a circle.
  const int flags = O_RDONLY | O_DIRECTORY | (place.below.empty() ? 0 : O_NOFOLLOW);
  Result<UniqueFd> directory = sys::open_in_root(m1_root_, path, flags);
  if (!directory.ok()) {
    Error error = directory.release_error();
    error.subject = printable(path);
    return error;
  }
  if (::fchdir(self_fd_dir_) != 0) return os_error("fchdir", "/proc/self/fd");
  const int descriptor = ::inotify_add_watch(inotify_.get(), std::to_string(directory.value().get()).c_str(), kMask);
  const int failure = errno;
  (void)::chdir("/");
  if (descriptor < 0) {
    Error error = os_error_from(failure, "inotify_add_watch", printable(path));
    if (failure == ENOSPC)
      error.next_step = "Raise the sysctl fs.inotify.max_user_watches, or watch fewer directories.";
    return error;
  }
  const auto [first, last] = places_.equal_range(descriptor);
  if (std::none_of(first, last, [&](const auto& entry) { return entry.second == place; })) {
    places_.emplace(descriptor, place);
  }
  return {};
}

Result<void> Watches::arm_tree(const Place& top, bool announce) {
  std::deque<Place> waiting{top};
  while (!waiting.empty()) {
    const Place place = std::move(waiting.front());
    waiting.pop_front();
    Result<void> armed = arm(place);
    // What is below may have gone meanwhile, which is no failure of the watch.
    if (!armed.ok() && (place == top || armed.error().code == Code::kTooLarge)) return armed;
    if (!armed.ok()) continue;
    const Watch& watch = watches_.at(place.watch);
    const std::string path = place.below.empty() ? watch.path : watch.path + "/" + place.below;
    Result<UniqueFd> directory = sys::open_in_root(m1_root_, path, O_RDONLY | O_DIRECTORY);
    if (!directory.ok()) continue;
    Result<std::vector<std::string>> names = sys::list_dir(directory.value().get());
    if (!names.ok()) continue;
    for (const std::string& name : names.value()) {
      if (announce) report(place.watch, v1::FileEvent::CREATED, join(place.below, name));
      struct stat info {};
      if (::fstatat(directory.value().get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) continue;
      if (S_ISDIR(info.st_mode)) waiting.push_back({place.watch, join(place.below, name)});
    }
  }
  return {};
}

void Watches::forget_below(const Place& top) {
  for (auto entry = places_.begin(); entry != places_.end();) {
    const Place& place = entry->second;
    const bool is_below = place.watch == top.watch &&
                          (place.below == top.below || top.below.empty() || place.below.starts_with(top.below + "/"));
    if (!is_below) {
      ++entry;
      continue;
    }
    const int descriptor = entry->first;
    entry = places_.erase(entry);
    if (!places_.contains(descriptor)) ::inotify_rm_watch(inotify_.get(), descriptor);
  }
}

void Watches::unwatch(ClientId client, std::uint64_t id) {
  const auto found = watches_.find(id);
  if (found == watches_.end() || found->second.client != client) return;
  forget_below({id, ""});
  watches_.erase(found);
  close_if_unused();
}

void Watches::client_left(ClientId client) {
  std::vector<std::uint64_t> left;
  for (const auto& [id, watch] : watches_) {
    if (watch.client == client) left.push_back(id);
  }
  for (const std::uint64_t id : left) unwatch(client, id);
}

bool Watches::has_watch_of(ClientId client) const {
  return std::any_of(watches_.begin(), watches_.end(),
                     [&](const auto& entry) { return entry.second.client == client; });
}

void Watches::close_if_unused() {
  if (watches_.empty()) inotify_.reset();
}

void Watches::read() {
  alignas(inotify_event) char buffer[65536];
  for (int round = 0; round < kMaxReads && inotify_; ++round) {
    const ssize_t count = ::read(inotify_.get(), buffer, sizeof buffer);
    if (count <= 0) return;
    std::vector<Seen> seen;
    for (ssize_t offset = 0; offset < count;) {
      const auto* event = reinterpret_cast<const inotify_event*>(buffer + offset);
      seen.push_back({event->wd, event->mask, event->len > 0 ? std::string(event->name) : std::string()});
      offset += static_cast<ssize_t>(sizeof(inotify_event) + event->len);
    }
    for (const Seen& event : seen) see(event);
  }
}

void Watches::see(const Seen& seen) {
  if ((seen.mask & IN_Q_OVERFLOW) != 0) {
    for (const auto& [id, watch] : watches_) report(id, v1::FileEvent::OVERFLOWED, "");
    return;
  }
  std::vector<Place> met;
  const auto [first, last] = places_.equal_range(seen.descriptor);
  for (auto entry = first; entry != last; ++entry) met.push_back(entry->second);
  // The kernel has dropped the watch: its directory is gone, or its overlay is.
  if ((seen.mask & IN_IGNORED) != 0) places_.erase(first, last);
  for (const Place& place : met) {
    if (watches_.contains(place.watch)) see_in(place, seen);
  }
}

void Watches::see_in(const Place& place, const Seen& seen) {
  if ((seen.mask & (IN_DELETE_SELF | IN_MOVE_SELF)) != 0) {
    if (place.below.empty()) end(place.watch, "the directory was removed or moved");
    return;
  }
  if (seen.name.empty() || seen.name.starts_with(kTemporaryPrefix)) return;
  const std::string name = join(place.below, seen.name);
  if ((seen.mask & (IN_CREATE | IN_MOVED_TO)) != 0) report(place.watch, v1::FileEvent::CREATED, name);
  if ((seen.mask & IN_MODIFY) != 0) report(place.watch, v1::FileEvent::WRITTEN, name);
  if ((seen.mask & IN_ATTRIB) != 0) report(place.watch, v1::FileEvent::CHANGED_MODE, name);
  if ((seen.mask & IN_DELETE) != 0) report(place.watch, v1::FileEvent::REMOVED, name);
  if ((seen.mask & IN_MOVED_FROM) != 0) report(place.watch, v1::FileEvent::RENAMED, name);
  if ((seen.mask & IN_ISDIR) == 0 || !watches_.at(place.watch).recursive) return;
  const Place child{place.watch, name};
  if ((seen.mask & IN_MOVED_FROM) != 0) forget_below(child);
  if ((seen.mask & (IN_CREATE | IN_MOVED_TO)) == 0) return;
  const Result<void> armed = arm_tree(child, true);
  // It may be gone again; but beyond the bound the watch would be blind in part.
  if (!armed.ok() && armed.error().code == Code::kTooLarge) end(place.watch, armed.error().describe());
}

void Watches::report(std::uint64_t watch, v1::FileEvent::Type type, const std::string& name) {
  Event event;
  event.client = watches_.at(watch).client;
  v1::FileEvent& message = *event.frame.mutable_file_event();
  message.set_watch_id(watch);
  message.set_type(type);
  message.set_name(name);
  events_.push_back(std::move(event));
}

void Watches::end(std::uint64_t id, const std::string& reason) {
  const ClientId client = watches_.at(id).client;
  Event event;
  event.client = client;
  event.frame.mutable_watch_ended()->set_watch_id(id);
  event.frame.mutable_watch_ended()->set_reason(reason);
  events_.push_back(std::move(event));
  unwatch(client, id);
}

void Watches::move_to_new_overlays() {
  if (watches_.empty()) return;
  read();
  std::set<Place> before;
  for (const auto& [descriptor, place] : places_) before.insert(place);
  inotify_.reset();
  places_.clear();
  const Result<void> started = start();
  for (const Place& place : before) {
    if (!watches_.contains(place.watch)) continue;
    const Result<void> armed = started.ok() ? arm(place) : started;
    if (!armed.ok() && place.below.empty()) end(place.watch, armed.error().describe());
  }
}

void Watches::rolled_back() {
  if (watches_.empty()) return;
  read();
  inotify_.reset();
  places_.clear();
  const Result<void> started = start();
  std::vector<std::uint64_t> all;
  for (const auto& [id, watch] : watches_) all.push_back(id);
  for (const std::uint64_t id : all) {
    Result<void> armed = started.ok() ? Result<void>() : Result<void>(started.error());
    if (armed.ok()) armed = watches_.at(id).recursive ? arm_tree({id, ""}, false) : arm({id, ""});
    report(id, v1::FileEvent::ROLLED_BACK, "");
    if (!armed.ok()) end(id, armed.error().describe());
  }
}

std::vector<Watches::Event> Watches::take_events() { return std::exchange(events_, {}); }

}  // namespace deltabox
