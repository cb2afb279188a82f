// Which system directories of the host a sandbox may write (over a layer of its own), and what of them is shown. Asks
// the host what exists and reads small files of its /etc; changes nothing.
#pragma once

#include <string>
#include <vector>

#include "sandbox/system_view.h"

namespace deltabox {

struct SystemPlan {
  std::vector<SystemView> views;
  std::vector<std::string> read_only;  // sentences: which directory can't be written, and why
};

// /usr and the like whole, of /etc what is allow-listed, of /var what package managers keep there. For root.
SystemPlan plan_system(bool host_network, const std::string& hosts);

// Names and passwords in URLs are the host's.
std::string without_credentials(const std::string& text);

}  // namespace deltabox
