#include "renames/identity.h"

#include <grp.h>
#include <linux/capability.h>
#include <sys/fsuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <sstream>
#include <string>
#include <utility>

#include "sys/files.h"

namespace deltabox::renames {

namespace {

constexpr std::size_t kMaxStatusBytes = 1u << 20;  // 65,536 groups and their like

Result<void> set_effective(std::uint64_t capabilities) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  if (::syscall(SYS_capget, &header, data) != 0) return os_error("capget");
  data[0].effective = static_cast<std::uint32_t>(capabilities);
  data[1].effective = static_cast<std::uint32_t>(capabilities >> 32);
  if (::syscall(SYS_capset, &header, data) != 0) return os_error("capset");
  return {};
}

// setfsuid(2) tells of no failure; asking for an id that can't be has no effect and tells the present one.
Result<void> set_file_ids(const Identity& identity) {
  ::setfsgid(identity.gid);
  ::setfsuid(identity.uid);
  const bool taken = static_cast<gid_t>(::setfsgid(static_cast<gid_t>(-1))) == identity.gid &&
                     static_cast<uid_t>(::setfsuid(static_cast<uid_t>(-1))) == identity.uid;
  if (!taken) return os_error_from(EPERM, "setfsuid", std::to_string(identity.uid));
  return {};
}

Result<void> set_all(const Identity& wanted, const Identity& from) {
  // setgroups is denied where there is one id; all have the same groups then.
  if (wanted.groups != from.groups && ::setgroups(wanted.groups.size(), wanted.groups.data()) != 0) {
    return os_error("setgroups");
  }
  return set_file_ids(wanted);
}

}  // namespace

Result<Identity> identity_of(int proc_fd, HostTid tid) {
  const std::string path = std::to_string(tid.value) + "/status";
  std::istringstream lines(TRY(sys::read_file_at(proc_fd, path, kMaxStatusBytes)));
  Identity identity;
  int found = 0;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string key;
    words >> key;
    std::uint64_t real = 0, effective = 0, saved = 0;
    if (key == "Uid:") {
      found += words >> real >> effective >> saved >> identity.uid ? 1 : 0;
    } else if (key == "Gid:") {
      found += words >> real >> effective >> saved >> identity.gid ? 1 : 0;
    } else if (key == "Groups:") {
      for (gid_t group = 0; words >> group;) identity.groups.push_back(group);
      ++found;
    } else if (key == "CapEff:") {
      found += words >> std::hex >> identity.capabilities ? 1 : 0;
    }
  }
  if (found != 4) return make_error(Code::kInternal, "a task's ids could not be read");
  return identity;
}

Result<void> assume(const Identity& wanted, const Identity& own) {
  TRY(set_all(wanted, own));
  // Last, since it gives up what the steps before need. setfsuid itself drops and returns some of them.
  return set_effective(wanted.capabilities);
}

Result<AssumedIdentity> AssumedIdentity::assume(const Identity& wanted, const Identity& own) {
  AssumedIdentity guard(wanted, own);
  TRY(renames::assume(wanted, own));
  return guard;
}

AssumedIdentity::AssumedIdentity(AssumedIdentity&& other) noexcept
    : wanted_(std::exchange(other.wanted_, nullptr)), own_(other.own_) {}

AssumedIdentity::~AssumedIdentity() {
  if (wanted_ == nullptr) return;
  Result<void> restored = set_effective(own_->capabilities);
  if (restored.ok()) restored = set_all(*own_, *wanted_);
  // setfsuid from another id to root raises only some capabilities, and the identity is all of them.
  if (restored.ok()) restored = set_effective(own_->capabilities);
  if (!restored.ok()) ::_exit(1);
}

}  // namespace deltabox::renames
