#include "sandbox/system_plan.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <set>
#include <span>

#include "sandbox/base_trees.h"
#include "sandbox/host_etc.h"
#include "sandbox/skeleton.h"
#include "sys/files.h"

namespace deltabox {

namespace {

constexpr std::size_t kMaxFileBytes = 1u << 20;  // ld.so.cache of a large system has 300 KiB
constexpr std::size_t kMaxFilesOfDir = 128;

// Never shown, though the directory around is: what is secret by its purpose, whatever its mode.
constexpr const char* kHiddenEtc[] = {"ssl/private", "pki/CA/private", "pki/tls/private", "security/opasswd"};

// What packages of common systems keep from others in /usr. As it can't be read (system_view.h) it could not be
// upgraded either: dpkg links the old file to another name first, and overlayfs copies it for that.
constexpr const char* kHiddenUsr[] = {"bin/dumpcap", "lib/dbus-1.0/dbus-daemon-launch-helper",
                                      "lib/mysql/plugin/auth_pam_tool_dir", "sbin/pppd", "share/polkit-1/rules.d"};

// Directories of apt that hold keys, and those whose files are copied. Not auth.conf and auth.conf.d: passwords.
constexpr const char* kAptShown[] = {"apt/keyrings", "apt/trusted.gpg.d"};
constexpr const char* kAptCopied[] = {"apt/apt.conf.d", "apt/preferences.d", "apt/sources.list.d"};
constexpr const char* kAptFiles[] = {"apt/apt.conf", "apt/preferences", "apt/sources.list", "apt/trusted.gpg"};

// What package managers remember of the host's /usr. Locks and what belongs to root or _apt alone is made anew.
constexpr const char* kShownVar[] = {
    "cache/apt",          "lib/apt",    "lib/dictionaries-common", "lib/dpkg", "lib/pam",
    "lib/emacsen-common", "lib/python", "lib/sgml-base",           "lib/ucf",  "lib/xml-core"};
constexpr const char* kHiddenVar[] = {
    "cache/apt/archives/lock", "cache/apt/archives/partial", "lib/apt/lists/lock",    "lib/apt/lists/partial",
    "lib/dpkg/lock",           "lib/dpkg/lock-frontend",     "lib/dpkg/triggers/Lock"};
constexpr const char* kOwnVar[] = {"backups", "cache/debconf", "lib", "local", "log/apt", "mail", "opt", "spool"};

ViewAttributes attributes_of(const struct stat& info) {
  return {info.st_mode & 07777u, info.st_uid, info.st_gid, info.st_mtim};
}

bool stat_path(const std::string& path, struct stat& info, int flags = 0) {
  return ::fstatat(AT_FDCWD, path.c_str(), &info, flags) == 0;
}

// Collects the entries of one view, each after its directory and once.
class EntryList {
 public:
  // `root`: the host's directory, with a slash at its end; `whole`: all of it shows through anyway.
  explicit EntryList(std::string root, bool whole = false) : root_(std::move(root)), whole_(whole) {}

  // A directory of the view alone, with the attributes of the host's where there is one.
  void add_dir(const std::string& path, bool shows_host = false) {
    if (path.empty() || !made_.insert(path).second) return;
    add_parents(path);
    ViewDir dir{path, shows_host, {}};
    struct stat info {};
    if (stat_path(root_ + path, info) && S_ISDIR(info.st_mode)) dir.attributes = attributes_of(info);
    entries_.push_back(std::move(dir));
  }

  // A directory of the host, with all in it.
  void show_dir(const std::string& path) {
    struct stat info {};
    if (stat_path(root_ + path, info) && S_ISDIR(info.st_mode)) add_dir(path, true);
  }

  // A file, link or directory of the host, if others may read it.
  void show(const std::string& path) {
    struct stat info {};
    if (!stat_path(root_ + path, info, AT_SYMLINK_NOFOLLOW)) return;
    if (S_ISDIR(info.st_mode)) {
      show_dir(path);
    } else if (S_ISLNK(info.st_mode)) {
      show_link(path);
    } else {
      copy_file(path);
    }
  }

  void copy_file(const std::string& path, bool with_credentials = true) {
    struct stat info {};
    if (!stat_path(root_ + path, info) || !S_ISREG(info.st_mode) || (info.st_mode & S_IROTH) == 0) return;
    Result<std::string> contents = sys::read_file_at(AT_FDCWD, root_ + path, kMaxFileBytes);
    if (!contents.ok()) return;
    add_file(path, with_credentials ? contents.release_value() : without_credentials(contents.value()),
             attributes_of(info));
  }

  void copy_files_of(const std::string& dir) {
    Result<UniqueFd> fd = sys::open_at(AT_FDCWD, root_ + dir, O_RDONLY | O_DIRECTORY);
    if (!fd.ok()) return;
    Result<std::vector<std::string>> names = sys::list_dir(fd.value().get());
    if (!names.ok()) return;
    add_dir(dir);
    if (names.value().size() > kMaxFilesOfDir) names.value().resize(kMaxFilesOfDir);
    for (const std::string& name : names.value()) copy_file(dir + "/" + name, false);
  }

  void add_file(const std::string& path, std::string contents, ViewAttributes attributes) {
    if (!made_.insert(path).second) return;
    add_parents(path);
    entries_.push_back(ViewFile{path, std::move(contents), attributes});
  }

  void add_link(const std::string& path, const std::string& target) {
    if (!made_.insert(path).second) return;
    add_parents(path);
    entries_.push_back(ViewLink{path, target});
  }

  // Where the host has it and shows it, but not to others.
  void hide_private(const std::string& path) {
    struct stat info {};
    if (stat_path(root_ + path, info, AT_SYMLINK_NOFOLLOW) && (info.st_mode & S_IROTH) == 0) hide(path);
  }

  // Where the host has it, in a directory of the host that is shown.
  void hide(const std::string& path) {
    struct stat info {};
    if (!is_shown(path) || !stat_path(root_ + path, info, AT_SYMLINK_NOFOLLOW)) return;
    if (!made_.insert(path).second) return;
    add_parents(path);
    entries_.push_back(ViewHidden{path});
  }

  std::vector<ViewEntry> take() { return std::move(entries_); }

 private:
  void add_parents(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    if (slash != std::string::npos) add_dir(path.substr(0, slash), is_shown(path.substr(0, slash)));
  }

  // Inside a directory of the host that shows through.
  bool is_shown(const std::string& path) const {
    if (whole_) return true;
    return std::any_of(entries_.begin(), entries_.end(), [&](const ViewEntry& entry) {
      const ViewDir* dir = std::get_if<ViewDir>(&entry);
      return dir != nullptr && dir->shows_host && path.starts_with(dir->path + "/");
    });
  }

  // Kept as a link where it leads to what is shown; else the file it leads to.
  void show_link(const std::string& path) {
    const Result<std::string> target = sys::read_link_at(AT_FDCWD, root_ + path);
    if (!target.ok()) return;
    const auto leads_to = [&](const char* place) { return target.value().starts_with(place); };
    if (leads_to("/usr/") || leads_to("../usr/") || leads_to("/etc/")) {
      add_link(path, target.value());
    } else {
      copy_file(path);
    }
  }

  std::string root_;
  bool whole_;
  std::set<std::string> made_;
  std::vector<ViewEntry> entries_;
};

std::vector<ViewEntry> plan_etc(bool host_network, const std::string& hosts) {
  EntryList list("/etc/");
  ViewAttributes made;
  made.mode = 0644;
  const auto add_made = [&](const std::vector<MakeFile>& files) {
    for (const MakeFile& file : files) list.add_file(file.path.substr(5), file.contents, made);
  };
  add_made(account_files());
  add_made(name_service_files(host_network, hosts));
  for (const std::span<const char* const> names : {allowed_etc(), allowed_etc_of_installers()}) {
    for (const char* name : names) list.show(name);
  }
  list.add_link("mtab", "../proc/self/mounts");
  for (const char* name : kAptShown) list.show_dir(name);
  for (const char* name : kAptCopied) list.copy_files_of(name);
  for (const char* name : kAptFiles) list.copy_file(name, false);
  for (const char* name : kHiddenEtc) list.hide(name);
  return list.take();
}

std::vector<ViewEntry> plan_whole(const std::string& path) {
  EntryList list(path + "/", true);
  if (path == "/usr") {
    for (const char* name : kHiddenUsr) list.hide_private(name);
  }
  return list.take();
}

std::vector<ViewEntry> plan_var() {
  EntryList list("/var/");
  for (const char* name : kShownVar) list.show_dir(name);
  for (const char* name : kHiddenVar) list.hide(name);
  for (const char* name : kOwnVar) list.add_dir(name);
  list.add_dir("tmp");
  list.add_link("run", "/run");
  list.add_link("lock", "/run/lock");
  return list.take();
}

// overlayfs shows an empty directory where another file system is mounted. The first such place, or nothing.
std::string mount_shown_in(const SystemView& view, const std::vector<std::string>& mounts) {
  std::vector<std::string> shown;
  if (view.whole) shown.push_back(view.path + "/");
  for (const ViewEntry& entry : view.entries) {
    const ViewDir* dir = std::get_if<ViewDir>(&entry);
    if (dir != nullptr && dir->shows_host) shown.push_back(view.path + "/" + dir->path + "/");
  }
  for (const std::string& mount : mounts) {
    const bool found = std::any_of(shown.begin(), shown.end(),
                                   [&](const std::string& place) { return (mount + "/").starts_with(place); });
    if (found && mount != view.path) return mount;
  }
  return {};
}

}  // namespace

std::string without_credentials(const std::string& text) {
  std::string kept;
  std::size_t done = 0;
  for (std::size_t scheme = text.find("://"); scheme != std::string::npos; scheme = text.find("://", scheme + 3)) {
    const std::size_t begin = scheme + 3;
    const std::size_t end = std::min(text.find_first_of("/ \t\r\n\"';]", begin), text.size());
    const std::size_t at = text.rfind('@', end);
    if (at == std::string::npos || at < begin || at >= end) continue;
    kept.append(text, done, begin - done);
    done = at + 1;
  }
  return kept.append(text, done);
}

SystemPlan plan_system(bool host_network, const std::string& hosts) {
  SystemPlan plan;
  Result<std::vector<std::string>> mounts = mounts_below("/");
  if (!mounts.ok()) return plan;
  const auto add = [&](SystemView view) {
    struct stat info {};
    if (!stat_path(view.path, info) || !S_ISDIR(info.st_mode)) return;
    view.attributes = attributes_of(info);
    const std::string inner = mount_shown_in(view, mounts.value());
    if (inner.empty()) {
      plan.views.push_back(std::move(view));
    } else {
      plan.read_only.push_back(view.path + " can't be written inside: " + inner + " is a mount point");
    }
  };
  for (const std::string& path : host_directories()) add({path, true, {}, plan_whole(path)});
  add({"/etc", false, {}, plan_etc(host_network, hosts)});
  add({"/var", false, {}, plan_var()});
  return plan;
}

}  // namespace deltabox
