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
  std::vector<SystemView> views;       // system directories that can perhaps be volumes
  std::vector<std::string> read_only;  // sentences: which can't, and why
  bool from_image = false;
  std::vector<MakeSymlink> image_links;
  // Written into volumes once they are there: an image's own say the name of the machine that it was made on.
  std::vector<MakeFile> files;
};

// Looks at the host's directories as the engine's user; while the engine still has the host's tree.
// `hosts`: further lines of /etc/hosts.
// `writes_system`: the sandbox has a range of ids, so the host's system directories can be volumes.
Result<Layout> plan_layout(const v1::CreateRequest& request, bool host_network, const std::string& hosts,
                           bool writes_system);

// The volumes, once it is known over which views there are some (SandboxNamespaces::views).
std::vector<VolumeSpec> volumes_of(const Layout& layout, const std::vector<std::string>& views);

// Two volumes can't lie one in the other: the inner one would vanish when the outer one switches. Pure.
Result<void> check_siblings(const std::vector<std::string>& paths);

}  // namespace deltabox
