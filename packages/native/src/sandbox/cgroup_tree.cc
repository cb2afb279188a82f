#include "sandbox/cgroup_tree.h"

#include <sstream>
#include <vector>

namespace deltabox {

namespace {

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
  return parts;
}

bool lists(const std::string& comma_separated, const std::string& word) {
  for (const std::string& part : split(comma_separated, ',')) {
    if (part == word) return true;
  }
  return false;
}

// "id:controllers:path" (cgroups(7)); version two has no controllers there.
std::optional<std::string> own_path(const std::string& self_cgroup, const std::string& controller,
                                    CgroupVersion version) {
  for (const std::string& line : split(self_cgroup, '\n')) {
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool matches = version == CgroupVersion::kTwo ? controllers.empty() : lists(controllers, controller);
    if (matches) return line.substr(second + 1);
  }
  return std::nullopt;
}

struct Mount {
  std::string root;
  std::string point;
  std::string type;
  std::string options;
};

// proc(5): id parent device root point options optional… - type source super-options
std::optional<Mount> parse_mount(const std::string& line) {
  const std::vector<std::string> fields = split(line, ' ');
  for (std::size_t index = 6; index + 3 < fields.size(); ++index) {
    if (fields[index] == "-") return Mount{fields[3], fields[4], fields[index + 1], fields[index + 3]};
  }
  return std::nullopt;
}

// In a container the mount may show only a part of the tree, and the path may be given from its root or from ours.
std::string below(const Mount& mount, const std::string& path) {
  std::string inner = path;
  if (mount.root != "/" && inner.starts_with(mount.root)) inner = inner.substr(mount.root.size());
  if (inner.empty() || inner == "/") return mount.point;
  return mount.point + inner;
}

}  // namespace

std::optional<CgroupPlace> find_cgroup(const std::string& controller, const std::string& mountinfo,
                                       const std::string& self_cgroup) {
  std::optional<CgroupPlace> unified;
  for (const std::string& line : split(mountinfo, '\n')) {
    const std::optional<Mount> mount = parse_mount(line);
    if (!mount) continue;
    if (mount->type == "cgroup" && lists(mount->options, controller)) {
      const std::optional<std::string> path = own_path(self_cgroup, controller, CgroupVersion::kOne);
      if (path) return CgroupPlace{CgroupVersion::kOne, mount->point, below(*mount, *path)};
    }
    if (mount->type == "cgroup2" && !unified) {
      const std::optional<std::string> path = own_path(self_cgroup, controller, CgroupVersion::kTwo);
      if (path) unified = CgroupPlace{CgroupVersion::kTwo, mount->point, below(*mount, *path)};
    }
  }
  return unified;
}

}  // namespace deltabox
