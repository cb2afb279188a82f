#include "engine/inside_paths.h"

#include <fcntl.h>

#include <cerrno>
#include <cstdio>

#include "sys/files.h"

namespace deltabox {

namespace {

constexpr std::size_t kMaxPathBytes = 4096;
constexpr std::size_t kMaxPrintedBytes = 200;

// The system call's own words name neither the path as the client knows it nor what to do.
Error explain(Error error, const std::string& path) {
  error.subject = printable(path);
  if (error.os_errno == ENAMETOOLONG) error.next_step = "A name has at most 255 bytes, a path 4,095.";
  if (error.os_errno == ELOOP) error.next_step = "The path leads through too many links, or through one of /proc.";
  return error;
}

}  // namespace

std::string printable(const std::string& path) {
  std::string text;
  for (const char byte : path.substr(0, kMaxPrintedBytes)) {
    const auto value = static_cast<unsigned char>(byte);
    if (value >= 0x20 && value < 0x7f) {
      text += byte;
    } else {
      char escaped[8];
      std::snprintf(escaped, sizeof escaped, "\\x%02x", value);
      text += escaped;
    }
  }
  return path.size() > kMaxPrintedBytes ? text + "…" : text;
}

Result<void> check_path(const std::string& path) {
  if (path.empty() || path[0] != '/' || path.size() >= kMaxPathBytes || path.find('\0') != std::string::npos) {
    return make_error(Code::kInvalidArgument, "not an absolute path: " + printable(path),
                      "Give an absolute path inside the sandbox, shorter than 4,096 bytes.");
  }
  return {};
}

Result<UniqueFd> open_directory_inside(int m1_root, const std::string& dir, bool make) {
  Result<UniqueFd> opened = sys::open_in_root(m1_root, dir.empty() ? "/" : dir, O_PATH | O_DIRECTORY);
  if (opened.ok()) return opened;
  if (!make || opened.error().os_errno != ENOENT) return explain(opened.release_error(), dir);
  const std::size_t slash = dir.rfind('/');
  UniqueFd above = TRY(open_directory_inside(m1_root, dir.substr(0, slash), true));
  const Result<void> made = sys::make_dir_at(above.get(), dir.substr(slash + 1), 0755);
  if (!made.ok() && made.error().os_errno != EEXIST) return explain(made.error(), dir);
  return sys::open_in_root(m1_root, dir, O_PATH | O_DIRECTORY);
}

Result<NamedEntry> open_parent_inside(int m1_root, const std::string& path, bool make_parents) {
  TRY(check_path(path));
  const std::size_t end = path.find_last_not_of('/');
  const std::string trimmed = end == std::string::npos ? "" : path.substr(0, end + 1);
  const std::size_t slash = trimmed.rfind('/');
  NamedEntry entry;
  entry.name = slash == std::string::npos ? "" : trimmed.substr(slash + 1);
  if (entry.name.empty() || entry.name == "." || entry.name == "..") {
    return make_error(Code::kInvalidArgument, printable(path) + " does not name an entry of a directory",
                      "Give the path of a file or directory.");
  }
  if (entry.name.size() > 255) {
    return make_error(Code::kInvalidArgument, "the name is longer than 255 bytes: " + printable(entry.name),
                      "Use a shorter name.");
  }
  entry.parent = TRY(open_directory_inside(m1_root, trimmed.substr(0, slash), make_parents));
  return entry;
}

}  // namespace deltabox
