// What a rollback would have to report as not restored, found by planning alone. Strict rollbacks ask before they touch
// anything.
#pragma once

#include <set>
#include <vector>

#include "base/result.h"
#include "deltacr/image.h"

namespace deltabox {

std::vector<Notice> preview_not_restored(const TreeImage& live, const TreeImage& target, const std::set<int>& switched);

// Changes of one process that no call takes back: session, credentials, stopped state.
std::vector<Notice> one_way_changes(const ProcessImage& live, const ProcessImage& target);

// Zombies of the target whose exit status was collected since.
std::vector<Notice> collected_zombies(const TreeImage& live, const TreeImage& target);

}  // namespace deltabox
