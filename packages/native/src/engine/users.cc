#include "engine/users.h"

#include <charconv>
#include <optional>
#include <sstream>
#include <vector>

#include "engine/sandbox_files.h"
#include "sandbox/init/init_abi.h"
#include "sys/files.h"

namespace deltabox {

namespace {

constexpr std::size_t kMaxAccountFileBytes = 1u << 20;

std::optional<std::uint32_t> to_number(const std::string& text) {
  std::uint32_t number = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (failure != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
  return parts;
}

Result<std::string> read_account_file(int m1_root, const std::string& path) {
  OpenedFile file = TRY(open_for_reading(m1_root, path));
  return sys::read_all(file.fd.get(), kMaxAccountFileBytes);
}

// How many ids the engine's user namespace, and with it the sandbox's, has.
Result<std::uint64_t> count_ids(int proc_fd) {
  const std::string map = TRY(sys::read_file_at(proc_fd, "self/uid_map", 65536));
  std::istringstream fields(map);
  std::uint64_t inside = 0;
  std::uint64_t outside = 0;
  std::uint64_t count = 0;
  fields >> inside >> outside >> count;
  return count;
}

std::vector<std::uint32_t> groups_of(const std::string& group_file, const std::string& user) {
  std::vector<std::uint32_t> groups;
  for (const std::string& line : split(group_file, '\n')) {
    const std::vector<std::string> fields = split(line, ':');
    if (fields.size() < 4) continue;
    const std::optional<std::uint32_t> gid = to_number(fields[2]);
    for (const std::string& member : split(fields[3], ',')) {
      if (gid && member == user && groups.size() < init_abi::kMaxGroups) groups.push_back(*gid);
    }
  }
  return groups;
}

}  // namespace

Result<SandboxUser> find_user(int m1_root, int proc_fd, const std::string& name_or_uid) {
  const std::string passwd = TRY(read_account_file(m1_root, "/etc/passwd"));
  const std::optional<std::uint32_t> wanted_uid = to_number(name_or_uid);
  for (const std::string& line : split(passwd, '\n')) {
    const std::vector<std::string> fields = split(line, ':');
    if (fields.size() < 6) continue;
    const std::optional<std::uint32_t> uid = to_number(fields[2]);
    const std::optional<std::uint32_t> gid = to_number(fields[3]);
    if (!uid || !gid || (fields[0] != name_or_uid && uid != wanted_uid)) continue;
    SandboxUser user{fields[0], fields[5], {*uid, *gid, {}}};
    const std::uint64_t ids = TRY(count_ids(proc_fd));
    if (*uid >= ids || *gid >= ids) {
      return make_error(Code::kUnsupported,
                        "this sandbox has no id for user " + user.name + ": an ordinary user started it, and it has " +
                            "one id, which is root inside",
                        "Run the command as root, or start the sandbox as root.");
    }
    const Result<std::string> group_file = read_account_file(m1_root, "/etc/group");
    if (group_file.ok()) user.ids.groups = groups_of(group_file.value(), user.name);
    return user;
  }
  return make_error(Code::kNotFound, "the sandbox's /etc/passwd has no user " + name_or_uid.substr(0, 100),
                    "Name a user of the sandbox's /etc/passwd, by name or uid.");
}

}  // namespace deltabox
