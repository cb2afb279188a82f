// What of the host's /etc is shown inside: an allow-list, and files that are made for the sandbox. Asks the host what
// exists, changes nothing.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "sandbox/skeleton.h"

namespace deltabox {

// Names below /etc of what programs need: name service, certificates, loader, shells, time, language runtimes. Nothing
// of it is private to the host; what its modes forbid to others stays unreadable inside (base_trees.h, system_view.h).
std::span<const char* const> allowed_etc();
// What installing packages and making users needs besides: only where /etc can be written.
std::span<const char* const> allowed_etc_of_installers();

// /etc/passwd and /etc/group: the host's system accounts.
std::vector<MakeFile> account_files();

// /etc/hostname, /etc/hosts and /etc/resolv.conf with the contents that fit the network. `hosts`: further lines of
// /etc/hosts.
std::vector<MakeFile> name_service_files(bool host_network, const std::string& hosts);

}  // namespace deltabox
