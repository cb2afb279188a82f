// One bound of memory for the checkpoints of all sandboxes of a state directory.
//
// The file hot-budget of the state directory, which packages/core/src/state/hot-budget.ts writes the bound to:
//
//   offset 0   "DBXHOT1\0"                      64-byte entries, one per engine:
//          8   bound in bytes, 0: none           0  bytes of pages in memory
//         16   written to wake the engines up    8  when the least recently used that may go cold was used (ns)
//         64   entries                          16  whether others ask for it to go
//
// All engines map it. An entry is its engine's while that holds a lock on it (F_OFD_SETLK), and so until it ends,
// however that happens. Whose checkpoint is the least recently used of all gives it up; others ask it to.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace deltabox {

class SharedBudget {
 public:
  // Makes the file where it is missing. While the engine still has the host's tree and the caller's ids.
  // An engine that finds no free entry (there are 1,023), or may have no inotify instance, takes part as far as it can:
  // without an entry not at all, without inotify whenever it does something anyway.
  static Result<std::unique_ptr<SharedBudget>> join(const std::string& path);
  ~SharedBudget();
  SharedBudget(const SharedBudget&) = delete;
  SharedBudget& operator=(const SharedBudget&) = delete;

  // Readable when another engine asks, or the bound may have changed; -1: there is none.
  int woken_fd() const { return notify_.get(); }
  // Whether there is something to look at: this engine is asked, or the bound is another one.
  bool acknowledge();

  // What this engine holds, and when the least recently used of its checkpoints that may go was used (CLOCK_MONOTONIC;
  // none: none may).
  void tell(std::uint64_t hot_bytes, std::optional<std::uint64_t> oldest_use_ns);
  std::uint64_t bound_bytes() const;
  // Of all engines that live.
  std::uint64_t total_bytes() const;

  enum class Turn { kNobodys, kOurs, kAnothers };
  // Whose checkpoint is to go now; nobody's while all fits, or where none may go.
  Turn turn() const;
  // Wakes up whose turn it is, once.
  void ask_another();

 private:
  struct Entry;
  struct File;
  SharedBudget() = default;
  bool is_alive(std::size_t entry) const;
  // The index of the entry whose checkpoint is to go; kNone.
  std::size_t next_to_go() const;

  static constexpr std::size_t kNone = 0;  // the header's
  UniqueFd fd_;
  UniqueFd notify_;
  File* file_ = nullptr;
  std::size_t own_ = kNone;
  std::uint64_t known_bound_ = 0;
};

}  // namespace deltabox
