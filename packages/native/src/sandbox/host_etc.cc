#include "sandbox/host_etc.h"

#include <fcntl.h>

#include <cstdlib>
#include <sstream>

#include "sys/files.h"

namespace deltabox {

namespace {

constexpr const char* kAllowed[] = {
    "alternatives",
    "bash.bashrc",
    "ca-certificates",
    "ca-certificates.conf",
    "debian_version",
    "fonts",
    "gai.conf",
    "host.conf",
    "inputrc",
    "java-11-openjdk",
    "java-17-openjdk",
    "java-21-openjdk",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "locale.alias",
    "lsb-release",
    "magic",
    "magic.mime",
    "mime.types",
    "nsswitch.conf",
    "os-release",
    "perl",
    "pki",
    "profile",
    "protocols",
    "python3",
    "python3.10",
    "python3.11",
    "python3.12",
    "python3.13",
    "services",
    "shells",
    "ssl",
    "terminfo",
    "timezone",
    "vim",
};

constexpr const char* kAllowedOfInstallers[] = {
    "adduser.conf",
    "debconf.conf",
    "default/useradd",
    "deluser.conf",
    "dictionaries-common",
    "dpkg",
    "emacs",
    "login.defs",
    "pam.conf",
    "pam.d",
    "security",
    "sgml",
    "skel",
    "ucf.conf",
    "xml",
};

constexpr std::size_t kMaxFileBytes = 1u << 20;

// The lines of a passwd or group file with ids below 1000 and nobody's: programs look their users up, and the people of
// the host are nobody's business inside. Nobody has a password, and none is looked for in /etc/shadow (`x`), which is
// not there.
std::string system_accounts(const std::string& file) {
  const Result<std::string> text = sys::read_file_at(AT_FDCWD, file, kMaxFileBytes);
  if (!text.ok()) return file == "/etc/passwd" ? "root:*:0:0:root:/root:/bin/bash\n" : "root:*:0:\n";
  std::string kept;
  std::istringstream lines(text.value());
  for (std::string line; std::getline(lines, line);) {
    const std::size_t password = line.find(':') + 1;
    const std::size_t id_field = line.find(':', password) + 1;
    if (password == 0 || id_field == 0) continue;
    const long id = std::strtol(line.c_str() + id_field, nullptr, 10);
    if (id >= 1000 && id != 65534) continue;
    line.replace(password, id_field - 1 - password, "*");
    // A group's members are people too.
    if (file == "/etc/group") line = line.substr(0, line.rfind(':') + 1);
    kept += line + "\n";
  }
  return kept;
}

}  // namespace

std::span<const char* const> allowed_etc() { return kAllowed; }
std::span<const char* const> allowed_etc_of_installers() { return kAllowedOfInstallers; }

std::vector<MakeFile> account_files() {
  return {{"/etc/passwd", system_accounts("/etc/passwd")}, {"/etc/group", system_accounts("/etc/group")}};
}

std::vector<MakeFile> name_service_files(bool host_network, const std::string& hosts) {
  const auto host_file = [&](const char* path) {
    const Result<std::string> text = sys::read_file_at(AT_FDCWD, path, kMaxFileBytes);
    return host_network && text.ok() ? text.value() : std::string();
  };
  return {{"/etc/hostname", "deltabox\n"},
          {"/etc/hosts", "127.0.0.1 localhost deltabox\n::1 localhost\n" + hosts + host_file("/etc/hosts")},
          {"/etc/resolv.conf", host_file("/etc/resolv.conf")}};
}

}  // namespace deltabox
