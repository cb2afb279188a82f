#include "tracee/process_files.h"

#include <fcntl.h>

#include <string>

#include "sys/files.h"

namespace deltabox {

namespace {

constexpr std::array<const char*, kProcFiles> kNames = {"/maps",   "/pagemap", "/status",
                                                        "/timers", "/fd",      "/oom_score_adj"};

}  // namespace

Result<int> ProcessFiles::get(ProcFile file) {
  const auto index = static_cast<std::size_t>(file);
  if (!files_[index]) {
    // One that was opened alone since may be of an earlier program, which only the mappings tell.
    if (file == ProcFile::kMappings) files_[static_cast<std::size_t>(ProcFile::kPageMap)].reset();
    const int flags = file == ProcFile::kDescriptors ? O_RDONLY | O_DIRECTORY : O_RDONLY;
    files_[index] = TRY(sys::open_at(proc_fd_, std::to_string(pid_.value) + kNames[index], flags));
  }
  return files_[index].get();
}

void ProcessFiles::forget_memory() {
  files_[static_cast<std::size_t>(ProcFile::kMappings)].reset();
  files_[static_cast<std::size_t>(ProcFile::kPageMap)].reset();
}

void ProcessFiles::forget() {
  for (UniqueFd& file : files_) file.reset();
}

}  // namespace deltabox
