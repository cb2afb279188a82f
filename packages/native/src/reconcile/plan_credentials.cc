#include "reconcile/plan_credentials.h"

#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <iterator>

namespace deltabox {

namespace {

using parasite::make_call;

constexpr int kCapabilities = 64;
constexpr std::size_t kMaxGroups = 2048;  // half of the parasite's buffer

constexpr std::uint64_t bit(int capability) { return std::uint64_t{1} << capability; }
bool is_within(std::uint64_t part, std::uint64_t whole) { return (part & ~whole) == 0; }
bool may(const Rights& rights, int capability) { return (rights.capabilities.permitted & bit(capability)) != 0; }

bool same_ids(const std::uint32_t (&one)[3], const std::uint32_t (&other)[3]) {
  return std::equal(std::begin(one), std::end(one), std::begin(other));
}
bool among(std::uint32_t id, const std::uint32_t (&ids)[3]) {
  return std::find(std::begin(ids), std::end(ids), id) != std::end(ids);
}
bool all_among(const std::uint32_t (&wanted)[3], const std::uint32_t (&present)[3]) {
  return std::all_of(std::begin(wanted), std::end(wanted), [&](std::uint32_t id) { return among(id, present); });
}

// Apart from keeping capabilities over setuid(2), which has a call of its own.
std::uint32_t rules(std::uint32_t securebits) { return securebits & ~std::uint32_t{SECBIT_KEEP_CAPS}; }

bool can_change_securebits(const Rights& from, std::uint32_t wanted) {
  const std::uint32_t present = from.credentials.securebits;
  const std::uint32_t locks = present & SECURE_ALL_LOCKS;
  if (((locks >> 1) & (present ^ wanted)) != 0 || !is_within(locks, wanted)) return false;
  return rules(present) == rules(wanted) || may(from, CAP_SETPCAP);
}

bool can_change_capabilities(const Rights& from, const Rights& to) {
  const Capabilities& present = from.capabilities;
  const Capabilities& wanted = to.capabilities;
  if (!is_within(wanted.permitted, present.permitted)) return false;
  const std::uint64_t grantable =
      may(from, CAP_SETPCAP) ? from.credentials.bounding : present.permitted & from.credentials.bounding;
  if (!is_within(wanted.inheritable, present.inheritable | grantable)) return false;
  const std::uint64_t raised = to.credentials.ambient & ~from.credentials.ambient;
  return raised == 0 || (from.credentials.securebits & SECBIT_NO_CAP_AMBIENT_RAISE) == 0;
}

// Emits calls and follows what they do to the rights.
class Changer {
 public:
  Changer(const Rights& from, const Rights& to, AttributeBatch& batch) : now_(from), to_(to), batch_(batch) {}

  void run() {
    const bool needs_rights =
        !(now_.credentials == to_.credentials) || now_.capabilities.inheritable != to_.capabilities.inheritable;
    if (needs_rights) set({now_.capabilities.permitted, now_.capabilities.permitted, now_.capabilities.inheritable});
    // While the bounding set still has them.
    set({now_.capabilities.effective, now_.capabilities.permitted, to_.capabilities.inheritable});
    change_groups();
    change_bounding();
    change_ids();
    change_ambient();
    change_securebits();
    set(to_.capabilities);
  }

 private:
  void set(const Capabilities& wanted) {
    if (now_.capabilities == wanted) return;
    const __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    const auto low = [](std::uint64_t mask) { return static_cast<std::uint32_t>(mask); };
    const auto high = [](std::uint64_t mask) { return static_cast<std::uint32_t>(mask >> 32); };
    const std::array<__user_cap_data_struct, 2> data{
        {{low(wanted.effective), low(wanted.permitted), low(wanted.inheritable)},
         {high(wanted.effective), high(wanted.permitted), high(wanted.inheritable)}}};
    const std::uint64_t header_address = batch_.place(&header, sizeof header);
    batch_.add("capabilities", make_call(SYS_capset, header_address, batch_.place(&data, sizeof data)));
    now_.capabilities = wanted;
    now_.credentials.ambient &= wanted.permitted & wanted.inheritable;
  }

  void change_groups() {
    const std::vector<std::uint32_t>& groups = to_.credentials.groups;
    if (now_.credentials.groups == groups) return;
    if (groups.size() > kMaxGroups) {
      batch_.add("groups", make_call(SYS_setgroups, groups.size(), 0));  // refused, and so reported
      return;
    }
    const std::uint64_t list = batch_.place(groups.data(), groups.size() * sizeof(std::uint32_t));
    batch_.add("groups", make_call(SYS_setgroups, groups.size(), list));
  }

  void change_bounding() {
    for (int capability = 0; capability < kCapabilities; ++capability) {
      if ((now_.credentials.bounding & ~to_.credentials.bounding & bit(capability)) == 0) continue;
      batch_.add("capabilities", make_call(SYS_prctl, PR_CAPBSET_DROP, static_cast<std::uint64_t>(capability)));
    }
  }

  void change_ids() {
    const Credentials& wanted = to_.credentials;
    if (!same_ids(now_.credentials.gids, wanted.gids)) {
      batch_.add("user", make_call(SYS_setresgid, wanted.gids[0], wanted.gids[1], wanted.gids[2]));
    }
    if (same_ids(now_.credentials.uids, wanted.uids)) return;
    keep_capabilities(true);
    batch_.add("user", make_call(SYS_setresuid, wanted.uids[0], wanted.uids[1], wanted.uids[2]));
    // To leave user 0 clears the effective set and the ambient one.
    const std::uint64_t permitted = now_.capabilities.permitted;
    now_.capabilities.effective = 0;
    set({permitted, permitted, now_.capabilities.inheritable});
    batch_.add("capabilities", make_call(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL));
    now_.credentials.ambient = 0;
  }

  void change_ambient() {
    for (int capability = 0; capability < kCapabilities; ++capability) {
      const bool has = (now_.credentials.ambient & bit(capability)) != 0;
      const bool wants = (to_.credentials.ambient & bit(capability)) != 0;
      if (has == wants) continue;
      batch_.add("capabilities",
                 make_call(SYS_prctl, PR_CAP_AMBIENT, wants ? PR_CAP_AMBIENT_RAISE : PR_CAP_AMBIENT_LOWER,
                           static_cast<std::uint64_t>(capability)));
    }
  }

  void keep_capabilities(bool keep) {
    const bool keeps = (now_.credentials.securebits & SECBIT_KEEP_CAPS) != 0;
    if (keeps == keep) return;
    batch_.add("securebits", make_call(SYS_prctl, PR_SET_KEEPCAPS, keep ? 1 : 0));
    now_.credentials.securebits ^= SECBIT_KEEP_CAPS;
  }

  void change_securebits() {
    const std::uint32_t wanted = to_.credentials.securebits;
    if (rules(now_.credentials.securebits) != rules(wanted)) {
      batch_.add("securebits", make_call(SYS_prctl, PR_SET_SECUREBITS, wanted));
      now_.credentials.securebits = wanted;
    }
    keep_capabilities((wanted & SECBIT_KEEP_CAPS) != 0);
  }

  Rights now_;
  const Rights& to_;
  AttributeBatch& batch_;
};

}  // namespace

// The ambient set is the main thread's; no thread has more of it than its own sets allow.
Rights rights_of(const ProcessImage& process, const ThreadImage& thread) {
  Rights rights{process.credentials, thread.capabilities};
  rights.credentials.ambient &= thread.capabilities.permitted & thread.capabilities.inheritable;
  return rights;
}

Rights after_exec(const Rights& rights) {
  Rights after = rights;
  const Credentials& credentials = rights.credentials;
  after.credentials.securebits &= ~std::uint32_t{SECBIT_KEEP_CAPS};
  after.credentials.uids[2] = credentials.uids[1];
  after.credentials.gids[2] = credentials.gids[1];
  const bool is_root = credentials.uids[0] == 0 || credentials.uids[1] == 0;
  if (is_root && (credentials.securebits & SECBIT_NOROOT) == 0) {
    // With no_new_privs it gets nothing that it did not have.
    const std::uint64_t all = rights.capabilities.inheritable | credentials.bounding;
    after.capabilities.permitted = all & rights.capabilities.permitted;
    after.capabilities.effective = credentials.uids[1] == 0 ? after.capabilities.permitted : credentials.ambient;
  } else {
    after.capabilities.permitted = after.capabilities.effective = credentials.ambient;
  }
  return after;
}

bool can_become(const Rights& from, const Rights& to) {
  if (from == to) return true;
  const Credentials& present = from.credentials;
  const Credentials& wanted = to.credentials;
  if (!may(from, CAP_SETUID) && !all_among(wanted.uids, present.uids)) return false;
  if (!may(from, CAP_SETGID) && (!all_among(wanted.gids, present.gids) || present.groups != wanted.groups))
    return false;
  if (!is_within(wanted.bounding, present.bounding)) return false;
  if (wanted.bounding != present.bounding && !may(from, CAP_SETPCAP)) return false;
  return can_change_securebits(from, wanted.securebits) && can_change_capabilities(from, to);
}

void plan_credentials(const Rights& from, const Rights& to, AttributeBatch& batch) {
  if (!(from == to)) Changer(from, to, batch).run();
}

}  // namespace deltabox
