// What a task may become by calls of its own. Pure; the rules are those of credentials(7) and capabilities(7).
#pragma once

#include "deltacr/credentials.h"
#include "reconcile/plan_attributes.h"

namespace deltabox {

struct Rights {
  Credentials credentials;
  Capabilities capabilities;
  bool operator==(const Rights&) const = default;
};

Rights rights_of(const ProcessImage& process, const ThreadImage& thread);
// What a task has after it has executed a program. No program of a sandbox has rights of its own (no_new_privs).
Rights after_exec(const Rights& rights);
// Whether plan_credentials() leads there.
bool can_become(const Rights& from, const Rights& to);
// The calls, in an order in which each still has the right that it takes. They may reset `dumpable` and the signal at
// the parent's death.
void plan_credentials(const Rights& from, const Rights& to, AttributeBatch& batch);

}  // namespace deltabox
