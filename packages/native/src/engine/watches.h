// Watched directories. An inotify watch is of an inode of one overlay, and a checkpoint or rollback puts another
// overlay in its place: all watches are then made anew, on what their paths lead to.
//
//  - A checkpoint changes nothing that can be seen, and no event may be lost: the watches move inside its pause
//    (`move_to_new_overlays`), after what the old ones saw was taken.
//  - A rollback may change everything: the watches are made anew after it (`rolled_back`), each gets one event that
//  says
//    so, and a directory that is gone ends its watch.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "engine/client.h"

namespace deltabox {

class Watches {
 public:
  Watches(int m1_root, int self_fd_dir) : m1_root_(m1_root), self_fd_dir_(self_fd_dir) {}

  Result<std::uint64_t> watch(ClientId client, const std::string& path, bool recursive);
  void unwatch(ClientId client, std::uint64_t id);
  void client_left(ClientId client);

  // -1: nothing is watched.
  int fd() const { return inotify_.get(); }
  bool has_watch_of(ClientId client) const;
  // Takes what inotify has to say; the events wait in `take_events`.
  void read();
  void move_to_new_overlays();
  void rolled_back();

  struct Event {
    ClientId client = 0;
    v1::EngineFrame frame;
  };
  std::vector<Event> take_events();

 private:
  struct Watch {
    ClientId client = 0;
    std::string path;
    bool recursive = false;
  };
  // One directory of one watch; "" is the watched directory itself.
  struct Place {
    std::uint64_t watch = 0;
    std::string below;
    auto operator<=>(const Place&) const = default;
  };
  struct Seen {
    int descriptor = -1;
    std::uint32_t mask = 0;
    std::string name;
  };

  Result<void> start();
  Result<void> arm(const Place& place);
  // With the directories below; `announce` reports what is found there already.
  Result<void> arm_tree(const Place& top, bool announce);
  void forget_below(const Place& top);
  void see(const Seen& seen);
  void see_in(const Place& place, const Seen& seen);
  void report(std::uint64_t watch, v1::FileEvent::Type type, const std::string& name);
  void end(std::uint64_t id, const std::string& reason);
  void close_if_unused();

  int m1_root_;
  int self_fd_dir_;
  UniqueFd inotify_;
  std::map<std::uint64_t, Watch> watches_;
  std::multimap<int, Place> places_;  // by inotify's descriptor
  std::vector<Event> events_;
  std::uint64_t next_ = 1;
};

}  // namespace deltabox
