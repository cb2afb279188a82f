#include "doctor/doctor.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <csignal>
#include <set>
#include <utility>
#include <vector>

#include "doctor/json_line.h"
#include "doctor/next_step.h"
#include "doctor/probe.h"
#include "doctor/scratch.h"
#include "sys/files.h"

namespace deltabox {

namespace {

using doctor::Context;
using doctor::Probe;

Result<Context> make_context(const std::string& state_dir, const std::string& init_binary) {
  Context context;
  context.state_dir = state_dir;
  context.init_binary = init_binary;
  context.proc = TRY(sys::open_at(AT_FDCWD, "/proc", O_RDONLY | O_DIRECTORY));
  context.engine_path = TRY(sys::read_link_at(context.proc.get(), "self/exe"));
  context.id_map = TRY(choose_id_map());
  Result<std::string> scratch = doctor::make_scratch(state_dir);
  if (scratch.ok()) context.scratch = scratch.release_value();  // else the probe of the state directory says why
  return context;
}

std::vector<Probe> all_probes(const Context& context) {
  std::vector<Probe> probes;
  for (std::vector<Probe>& group :
       std::vector<std::vector<Probe>>{doctor::namespace_probes(), doctor::file_probes(context), doctor::task_probes(),
                                       doctor::memory_probes(), doctor::limit_probes()}) {
    probes.insert(probes.end(), group.begin(), group.end());
  }
  return probes;
}

void print(const Probe& probe, const Result<std::string>& result, const std::string& next) {
  doctor::JsonLine line;
  line.add("name", probe.name).add("ok", result.ok()).add("required", probe.required);
  line.add("detail", std::string_view(result.ok() ? result.value() : result.error().describe())).add("next", next);
  const std::string text = line.finish();
  // Whoever closed standard output reads nothing, but still gets the exit status.
  (void)sys::write_all(STDOUT_FILENO, text.data(), text.size());
}

Result<std::string> run_unless_hopeless(const Probe& probe, const Context& context,
                                        const std::set<std::string>& failed) {
  if (probe.needs != nullptr && failed.contains(probe.needs)) {
    return make_error(Code::kUnsupported, std::string("not tried, because ") + probe.needs + " failed",
                      std::string("See ") + probe.needs + ".");
  }
  return doctor::run_bounded(probe, context);
}

}  // namespace

int run_doctor(const std::string& state_dir, const std::string& init_binary) {
  // Tasks whose parent was killed come to this process, which reaps them.
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  // A reader that leaves early must not keep the scratch directory from being removed.
  ::signal(SIGPIPE, SIG_IGN);
  Result<Context> made = make_context(state_dir, init_binary);
  if (!made.ok()) {
    const Probe probe{"proc", doctor::Topic::kMachine, true, nullptr, nullptr};
    print(probe, made.release_error(), "Mount /proc where DeltaBox runs.");
    return 1;
  }
  const Context& context = made.value();
  std::set<std::string> failed;
  bool fit = true;
  for (const Probe& probe : all_probes(context)) {
    const Result<std::string> result = run_unless_hopeless(probe, context, failed);
    if (!result.ok()) {
      failed.insert(probe.name);
      if (probe.required) fit = false;
    }
    print(probe, result, result.ok() ? std::string() : doctor::next_step(probe, result.error(), context));
  }
  if (!context.scratch.empty()) doctor::remove_scratch(context.scratch);
  return fit ? 0 : 1;
}

}  // namespace deltabox
