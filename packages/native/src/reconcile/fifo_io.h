// FIFOs, opened anew. The pipe behind one belongs to the inode that the overlay shows, and another overlay shows
// another inode for the same file: those who have it open and those who open it by its path meet on the one in place.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "deltacr/capture.h"
#include "deltacr/image.h"
#include "reconcile/plan.h"

namespace deltabox {

// What shall wait in a FIFO.
struct FifoContents {
  int capacity_bytes = 0;
  bool waits = false;
  std::function<Result<void>(int write_end)> fill;
};

// Opens these descriptions of one FIFO, all of them or none. Readers that know of a writer who is gone (POLLHUP) learn
// it again, the others do not.
Result<std::map<std::uint32_t, UniqueFd>> open_fifo(const TreeImage& image, const std::vector<std::uint32_t>& ends,
                                                    int m1_root, int self_fd_dir, const FifoContents& contents);

// After a switch under unchanged processes: the FIFOs of the switched volumes, with what waits in them, into `opened`.
// One that can't be opened stays as it is, which is reported.
void open_switched_fifos(TreeCapture& capture, const TreeImage& image, const std::set<int>& switched, int m1_root,
                         int self_fd_dir, std::map<std::uint32_t, UniqueFd>& opened, std::vector<Notice>& failures);

// At a rollback: those that `make` names, into `made`. Returns the FIFOs that hold what they held.
struct UnmadeFifo {
  std::vector<std::uint32_t> descriptions;
  Error reason;
};
std::set<const PipeHandle*> make_fifos(const TreeImage& target, const std::vector<std::uint32_t>& make,
                                       const std::set<int>& switched, int m1_root, int self_fd_dir,
                                       std::map<std::uint32_t, UniqueFd>& made, std::vector<UnmadeFifo>& unmade);

// Once every slot is the target's: what waits in a pipe, or in a FIFO that was not filled when it was made.
Result<void> correct_pipe(const TreeImage& live, const TreeImage& target, const PipeContents& wanted, int m1_root,
                          int self_fd_dir);

}  // namespace deltabox
