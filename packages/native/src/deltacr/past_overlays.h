// Where overlays were that have been replaced, and on which mappings and running programs still lie: the kernel names
// their files from the root of the overlay on, which is at no path any more.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "deltacr/descriptors.h"

namespace deltabox {

class PastOverlays {
 public:
  struct Overlay {
    std::uint64_t serial = 0;  // Volume::serial
    std::string path;          // of its volume
  };

  // Every overlay that is in place is seen here before it is replaced. A later one may have the device number of one
  // that nothing lies on any more.
  void note(const std::vector<VolumeView>& live) {
    for (const VolumeView& volume : live) overlays_[volume.device] = {volume.overlay, volume.path};
  }
  // A new one is in place, which note() has not seen.
  void forget(std::uint64_t device) { overlays_.erase(device); }
  // Null for what is in place, or never was an overlay.
  const Overlay* find(std::uint64_t device, const std::vector<VolumeView>& live) const {
    const auto found = overlays_.find(device);
    const bool is_live =
        std::any_of(live.begin(), live.end(), [&](const VolumeView& volume) { return volume.device == device; });
    return found != overlays_.end() && !is_live ? &found->second : nullptr;
  }

 private:
  std::map<std::uint64_t, Overlay> overlays_;  // by device number
};

}  // namespace deltabox
