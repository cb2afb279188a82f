// What a rollback would have to report as not restored, found by planning alone. Strict rollbacks ask before they touch
// anything.
#pragma once

#include <set>
#include <vector>

#include "base/result.h"
#include "deltacr/image.h"

namespace deltabox {

std::vector<Notice> preview_not_restored(const TreeImage& live, const TreeImage& target, const std::set<int>& switched);

// What of a process nothing brings back: a working directory that had been deleted.
std::vector<Notice> never_restored(const ProcessImage& target);

}  // namespace deltabox
