// A probe: one thing that a sandbox needs, and how to try it.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "sandbox/id_map.h"

namespace deltabox::doctor {

// What all probes of one run share.
struct Context {
  std::string state_dir;
  std::string init_binary;
  std::string engine_path;  // resolved; what an AppArmor profile has to name
  std::string scratch;      // a directory in the state directory, ours to fill; empty when it could not be made
  IdMap id_map;
  UniqueFd proc;
};

// What a failure is about, and so what could be changed.
enum class Topic {
  kMachine,
  kStateDir,
  kNamespaces,
  kProcMount,
  kOverlay,
  kIdmap,
  kInit,
  kTracing,
  kMemory,
  kReflink,
  kLimits
};

struct Probe {
  const char* name;
  Topic topic;
  bool required;
  const char* needs;  // the probe without which this one can't even be tried; nullptr: none
  // Runs in a child of its own and may leave tasks, mounts and files in scratch behind. The value is the detail to
  // print.
  Result<std::string> (*run)(const Context& context);
};

std::vector<Probe> namespace_probes();
std::vector<Probe> file_probes(const Context& context);
std::vector<Probe> task_probes();
std::vector<Probe> memory_probes();
std::vector<Probe> limit_probes();

// Runs the probe in a forked child and ends everything that it started. A probe that exceeds its time is a failure.
Result<std::string> run_bounded(const Probe& probe, const Context& context);

}  // namespace deltabox::doctor
