#include "engine/limits.h"

#include <sys/resource.h>

namespace deltabox {

namespace {

// Enough for a shell with a pipe; below it nothing works, and the cause is hard to see from inside.
constexpr std::uint64_t kMinProcesses = 4;
constexpr std::uint64_t kMinOpenFiles = 16;
constexpr std::uint64_t kMinMemoryBytes = 4u << 20;
constexpr std::uint64_t kMinDiskBytes = 1u << 20;  // the volumes' own directories take some 200 KiB
constexpr double kMinCpus = 0.01;

Result<void> check(const char* name, double value, double least) {
  if (value == 0 || value >= least) return {};
  return make_error(Code::kInvalidArgument, std::string("limits.") + name + " is below what any program needs",
                    "Give more, or leave it out.");
}

// An ordinary process may lower its hard limits and never raise them.
Result<void> check_against_host(const char* name, int resource, std::uint64_t value) {
  rlimit own{};
  if (::getrlimit(static_cast<__rlimit_resource>(resource), &own) != 0) return os_error("getrlimit", name);
  if (own.rlim_max == RLIM_INFINITY || value <= own.rlim_max) return {};
  return make_error(Code::kUnsupported,
                    std::string("limits.") + name + " is " + std::to_string(value) +
                        ", and the host allows this user's processes " + std::to_string(own.rlim_max) + " at most",
                    "Give no more than that, or raise the hard limit (ulimit -H) where the client starts.");
}

}  // namespace

Result<SandboxLimits> SandboxLimits::create(const v1::Limits& limits, const std::string& sandbox_id) {
  TRY(check("processes", static_cast<double>(limits.processes()), kMinProcesses));
  TRY(check("openFiles", static_cast<double>(limits.open_files()), kMinOpenFiles));
  TRY(check("memoryBytes", static_cast<double>(limits.memory_bytes()), kMinMemoryBytes));
  TRY(check("diskBytes", static_cast<double>(limits.disk_bytes()), kMinDiskBytes));
  TRY(check("cpus", limits.cpus(), kMinCpus));
  TRY(check_against_host("openFiles", RLIMIT_NOFILE, limits.open_files()));
  TRY(check_against_host("processes", RLIMIT_NPROC, limits.processes()));
  SandboxLimits made;
  made.limits_ = limits;
  made.cgroups_ = TRY(Cgroups::create({limits.memory_bytes(), limits.cpus()}, "deltabox-" + sandbox_id));
  return made;
}

void SandboxLimits::configure(NamespaceConfig& config) const {
  config.init_options.open_files = limits_.open_files();
  config.init_options.processes = limits_.processes();
  rlimit own{};
  const bool may_set = ::getrlimit(RLIMIT_FSIZE, &own) == 0 && limits_.disk_bytes() <= own.rlim_max;
  config.init_options.file_bytes = may_set ? limits_.disk_bytes() : 0;  // else the host's own is the lower one
  config.cgroups = &cgroups_;
}

void SandboxLimits::fill_info(v1::SandboxInfo& info) const {
  *info.mutable_limits() = limits_;
  const std::optional<CgroupUsage> usage = cgroups_.usage();
  if (!usage) return;
  info.set_memory_bytes(usage->memory_bytes);
  if (usage->oom_kills > 0) {
    info.add_warnings("the kernel ended " + std::to_string(usage->oom_kills) +
                      " processes of this sandbox because its memory limit was reached");
  }
}

}  // namespace deltabox
