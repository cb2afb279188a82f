#include "deltacr/kinds/inotify.h"

#include <sys/ioctl.h>

#include <algorithm>

#include "deltacr/kinds/fdinfo.h"

namespace deltabox {

Result<InotifyState> parse_inotify(const std::string& fdinfo) {
  InotifyState state;
  for (std::string_view line : fdinfo::lines_that_start(fdinfo, "inotify wd:")) {
    const auto descriptor = fdinfo::number(fdinfo::field(line, "wd"), 16);
    const auto inode = fdinfo::number(fdinfo::field(line, "ino"), 16);
    const auto device = fdinfo::number(fdinfo::field(line, "sdev"), 16);
    const auto mask = fdinfo::number(fdinfo::field(line, "mask"), 16);
    if (!descriptor || !inode || !device || !mask) {
      return make_error(Code::kInternal, "fdinfo of an inotify has another form: " + std::string(line));
    }
    InotifyWatch watch;
    watch.descriptor = static_cast<int>(*descriptor);
    watch.mask = static_cast<std::uint32_t>(*mask);
    watch.device = fdinfo::device_of(*device);
    watch.inode = *inode;
    state.watches.push_back(std::move(watch));
  }
  std::sort(state.watches.begin(), state.watches.end(),
            [](const InotifyWatch& first, const InotifyWatch& second) { return first.descriptor < second.descriptor; });
  return state;
}

Result<std::uint64_t> queued_bytes(int duplicate) {
  int bytes = 0;
  if (::ioctl(duplicate, FIONREAD, &bytes) != 0) return os_error("FIONREAD", "inotify");
  return static_cast<std::uint64_t>(bytes);
}

}  // namespace deltabox
