#include "deltacr/posix_timers.h"

#include <signal.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cstdlib>
#include <span>
#include <string>

#include "deltacr/image.h"
#include "deltacr/live_process.h"
#include "parasite/session.h"
#include "tracee/proc_files.h"

namespace deltabox {

namespace {

using parasite::Call;
using parasite::make_call;

static_assert(parasite::kMaxCalls * sizeof(itimerspec) <= parasite::kBufferBytes);

// "signal/tid.12": how, and to whom.
void parse_notify(std::string_view text, PosixTimer& timer) {
  timer.notify = text.starts_with("none") ? SIGEV_NONE : text.starts_with("thread/") ? SIGEV_THREAD : SIGEV_SIGNAL;
  if (text.find("/tid.") == std::string_view::npos) return;
  timer.notify |= SIGEV_THREAD_ID;
  timer.thread = InsidePid{std::atoi(text.data() + text.find('.') + 1)};
}

}  // namespace

bool PosixTimer::same_kind(const PosixTimer& other) const {
  return id == other.id && clock == other.clock && notify == other.notify && signal == other.signal &&
         value == other.value && thread == other.thread;
}

// Four lines each: "ID: 0", "signal: 14/00007ffd…", "notify: signal/pid.2634", "ClockID: 1".
std::vector<PosixTimer> parse_posix_timers(std::string_view text) {
  std::vector<PosixTimer> timers;
  while (!text.empty()) {
    const std::string line(text.substr(0, text.find('\n')));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    const auto after = [&](std::string_view key) { return line.starts_with(key) ? line.data() + key.size() : nullptr; };
    if (const char* id = after("ID: ")) {
      timers.push_back({});
      timers.back().id = std::atoi(id);
      continue;
    }
    if (timers.empty()) return timers;
    PosixTimer& timer = timers.back();
    if (const char* signal = after("signal: ")) {
      char* slash = nullptr;
      timer.signal = static_cast<std::int32_t>(std::strtol(signal, &slash, 10));
      if (*slash == '/') timer.value = std::strtoull(slash + 1, nullptr, 16);
    } else if (const char* notify = after("notify: ")) {
      parse_notify(notify, timer);
    } else if (const char* clock = after("ClockID: ")) {
      timer.clock = std::atoi(clock);
    }
  }
  return timers;
}

Result<void> read_posix_timers(parasite::Session& leader, LiveProcess& live, ProcessImage& image) {
  const Result<int> file = live.files.get(ProcFile::kTimers);
  if (!file.ok()) return {};  // not every kernel has it
  image.posix_timers = parse_posix_timers(TRY(read_from_start(file.value())));
  std::span<PosixTimer> rest(image.posix_timers);
  while (!rest.empty()) {
    const std::span<PosixTimer> some = rest.first(std::min(rest.size(), parasite::kMaxCalls));
    rest = rest.subspan(some.size());
    std::vector<Call> calls;
    const std::uint64_t buffer = live.site.mapping.value + parasite::kBufferOffset;
    for (std::size_t index = 0; index < some.size(); ++index) {
      calls.push_back(make_call(SYS_timer_gettime, static_cast<std::uint64_t>(some[index].id),
                                buffer + index * sizeof(itimerspec)));
    }
    TRY(leader.run(live.site, calls));
    std::vector<itimerspec> left(some.size());
    TRY(leader.read_buffer(live.site, 0, left.data(), left.size() * sizeof(itimerspec)));
    for (std::size_t index = 0; index < some.size(); ++index) {
      if (calls[index].result == 0) some[index].left = left[index];
    }
  }
  for (PosixTimer& timer : image.posix_timers) {
    if ((timer.notify & SIGEV_THREAD_ID) == 0) continue;
    const HostTid told{timer.thread.value};
    const auto thread = std::find_if(image.threads.begin(), image.threads.end(),
                                     [&](const ThreadImage& candidate) { return candidate.tid == told; });
    timer.thread = thread != image.threads.end() ? thread->inside : InsidePid{0};
  }
  return {};
}

}  // namespace deltabox
