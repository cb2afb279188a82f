// Which files of the volumes must keep their inodes, read off a process image: those that a task holds open for writing
// or has mapped shared.
#pragma once

#include <vector>

#include "deltacr/descriptors.h"
#include "deltacr/image.h"
#include "deltafs/hand_over.h"

namespace deltabox {

// By volume.
using FilesToKeep = std::vector<std::vector<FileToKeep>>;

FilesToKeep files_to_keep(const TreeImage& image, const std::vector<VolumeView>& volumes);

// For a rollback: the target's files, as far as their inodes are known, looked at as mapped when the live state maps
// them too.
FilesToKeep files_to_take_over(const TreeImage& live, const TreeImage& target,
                               const std::vector<std::vector<KeptFile>>& known, const std::vector<VolumeView>& volumes);

}  // namespace deltabox
