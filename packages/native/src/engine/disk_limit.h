// What a sandbox's layers may take on the disk. No quota of the file system is used: the layers are measured by a
// thread of their own, again and again while tasks run. Between two measurements a sandbox can write more; the limit of
// one file's size (RLIMIT_FSIZE, sandbox/init) holds at any time.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "base/ids.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "deltabox.pb.h"
#include "deltafs/store_worker.h"
#include "sandbox/namespaces.h"

namespace deltabox {

class DiskLimit {
 public:
  // limit_bytes: 0 for none, and then nothing is ever measured.
  static Result<std::unique_ptr<DiskLimit>> create(std::uint64_t limit_bytes, const SandboxNamespaces& namespaces);

  // Readable when a measurement has ended; then finish() is due. -1 without a limit.
  int ended_fd() const { return worker_ ? worker_->ended_fd() : -1; }
  // tasks_run: whether another measurement is wanted.
  void finish(std::uint64_t now_ms, bool tasks_run);
  // Something may have been written, or may be written from now on.
  void watch() { is_watching_ = true; }
  void start_if_due(std::uint64_t now_ms);
  // Until the next measurement is due; -1: none is.
  int wait_ms(std::uint64_t now_ms) const;
  // Measures here and now.
  void measure_now();

  bool is_over() const { return limit_bytes_ > 0 && used_bytes_ > limit_bytes_; }
  // Whether so many bytes more have room, as far as it is known.
  bool has_room(std::uint64_t bytes) const { return limit_bytes_ == 0 || used_bytes_ + bytes <= limit_bytes_; }
  void add_written(std::uint64_t bytes) { used_bytes_ += bytes; }
  void count_ended(std::uint64_t processes) { ended_processes_ += processes; }
  Error no_space() const;
  void fill_info(v1::SandboxInfo& info) const;

 private:
  DiskLimit() = default;
  std::uint64_t measure() const;

  std::uint64_t limit_bytes_ = 0;
  UniqueFd layers_;
  UniqueFd proc_;
  HostTid init_;
  std::uint64_t used_bytes_ = 0;
  std::uint64_t ended_processes_ = 0;
  std::uint64_t next_at_ms_ = 0;
  std::uint64_t started_at_ms_ = 0;
  bool is_watching_ = false;
  bool is_measuring_ = false;
  std::atomic<std::uint64_t> measured_bytes_{0};
  std::unique_ptr<StoreWorker> worker_;  // last: its thread ends before what it reads
};

}  // namespace deltabox
