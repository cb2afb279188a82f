// Opens descriptions anew and puts descriptors into the slots of frozen processes.
#pragma once

#include <fcntl.h>

#include <cstdint>
#include <map>
#include <set>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "deltacr/capture.h"
#include "deltacr/image.h"
#include "reconcile/revived_files.h"

namespace deltabox {

// fcntl(F_SETFL) changes these; the others are given to open(2).
inline constexpr int kSettableFlags = O_APPEND | O_NONBLOCK | O_ASYNC | O_DIRECT | O_NOATIME;

// Opens the file, device or pipe end of a description as it was (path, flags, offset), or makes its object anew. Paths
// resolve below m1_root and never leave it. Adds to `lost` what of an object's state could not be had again.
Result<UniqueFd> open_description(const Description& description, int m1_root, int self_fd_dir, RevivedFiles& revived,
                                  std::vector<std::string>& lost);

// Of the wanted descriptions, those of files and directories at a path, side by side where they are many. One that
// fails is left out: to open it alone tells why. What is opened for writing comes first: it copies the file up, and
// what is opened for reading must find the copy.
void open_files(const TreeImage& image, const std::vector<std::uint32_t>& wanted, int m1_root,
                std::map<std::uint32_t, UniqueFd>& opened);

// Sets offset, settable flags and state of a description through a duplicate.
Result<void> adjust_description(const Description& wanted, int pidfd, int fd);

struct Install {
  int fd = -1;  // of the engine
  int slot = -1;
  bool close_on_exec = false;
};
struct ProcessInstalls {
  HeldProcess* held = nullptr;
  std::vector<Install> installs;  // each of another slot
};
// Places descriptors of the engine in slots of processes, replacing what is there.
Result<void> install_descriptors(const std::vector<ProcessInstalls>& processes);

Result<void> close_descriptors(HeldProcess& held, const std::vector<int>& slots);
Result<void> set_descriptor_flag(HeldProcess& held, int slot, bool close_on_exec);

struct WorkingDirChange {
  HeldProcess* held;
  std::string path;
};
// Moves working directories, those of all processes side by side; the engine opens what a process itself may not.
Result<void> change_working_dirs(const std::vector<WorkingDirChange>& changes, int m1_root);

// After a switch under unchanged processes: re-opens what lies on the switched volumes, moves working directories and
// shared mappings.
// Returns what could not be moved.
Result<std::vector<Notice>> rehome(TreeCapture& capture, const TreeImage& image, const std::set<int>& switched,
                                   int m1_root, int self_fd_dir);

}  // namespace deltabox
