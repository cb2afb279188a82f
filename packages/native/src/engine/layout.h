// Which directories a sandbox consists of: its volumes, what is below them, and what else of the host is shown.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "deltabox.pb.h"
#include "deltafs/volume.h"
#include "sandbox/namespaces.h"

namespace deltabox {

struct Layout {
  std::vector<VolumeSpec> volumes;  // siblings; VolumeSpec::base is an index of `bases`
  std::vector<std::string> bases;
  std::vector<HostBind> binds;
  bool from_image = false;
  std::vector<MakeSymlink> image_links;
  // Written into volumes once they are there: an image's own say the name of the machine that it was made on.
  std::vector<MakeFile> files;
};

// Looks at the host's directories as the engine's user; while the engine still has the host's tree.
// `hosts`: further lines of /etc/hosts.
Result<Layout> plan_layout(const v1::CreateRequest& request, bool host_network, const std::string& hosts);

// Two volumes can't lie one in the other: the inner one would vanish when the outer one switches. Pure.
Result<void> check_siblings(const std::vector<std::string>& paths);

}  // namespace deltabox
