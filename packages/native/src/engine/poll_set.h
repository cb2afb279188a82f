// What one round of the event loop waits for, and what is to be done about each.
#pragma once

#include <poll.h>

#include <functional>
#include <vector>

namespace deltabox {

class PollSet {
 public:
  // `ready` gets the events that came. It is called in the order of the additions; what it works on may be gone by
  // then, so it looks it up again.
  void add(int fd, short events, std::function<void(short)> ready) {
    fds_.push_back({fd, events, 0});
    ready_.push_back(std::move(ready));
  }
  std::vector<pollfd>& fds() { return fds_; }
  void serve() {
    for (std::size_t index = 0; index < fds_.size(); ++index) {
      if (fds_[index].revents != 0) ready_[index](fds_[index].revents);
    }
  }

 private:
  std::vector<pollfd> fds_;
  std::vector<std::function<void(short)>> ready_;
};

}  // namespace deltabox
