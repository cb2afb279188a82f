#include "deltacr/kinds/epoll.h"

#include <map>

#include "deltacr/kinds/fdinfo.h"

namespace deltabox {

Result<EpollState> parse_epoll(const std::string& fdinfo) {
  EpollState state;
  std::map<int, int> seen;
  for (const std::string_view line : fdinfo::lines_that_start(fdinfo, "tfd:")) {
    const auto fd = fdinfo::number(fdinfo::field(line, "tfd"), 10);
    const auto events = fdinfo::number(fdinfo::field(line, "events"), 16);
    const auto data = fdinfo::number(fdinfo::field(line, "data"), 16);
    const auto inode = fdinfo::number(fdinfo::field(line, "ino"), 16);
    const auto device = fdinfo::number(fdinfo::field(line, "sdev"), 16);
    if (!fd || !events || !data || !inode || !device) {
      return make_error(Code::kInternal, "fdinfo of an epoll has another form: " + std::string(line));
    }
    EpollEntry entry;
    entry.fd = static_cast<int>(*fd);
    entry.events = static_cast<std::uint32_t>(*events);
    entry.data = *data;
    entry.device = fdinfo::device_of(*device);
    entry.inode = *inode;
    entry.same_fd_before = seen[entry.fd]++;
    state.entries.push_back(entry);
  }
  return state;
}

}  // namespace deltabox
