// One system directory of the host as the bottom layer of a volume, for a sandbox with a range of ids.
//
//   the volume's overlay   in the engine's namespace     lower: its layers, then ┐
//   the view               an overlay without an upper   ├ its own entries (a tmpfs: files, hidden names, which
//                          directory, made by the host   │ directories of the host show through)
//                          helper                        └ the host's directory, idmapped, read-only
//
// overlayfs asks the real file with the rights of whoever mounted it. The host helper mounts a view as a user who owns
// nothing and is in no group, without a capability over files. So what a file's mode forbids to others stays unreadable
// through it, though its owner is root inside and the engine overrides modes.
#pragma once

#include <sys/stat.h>

#include <string>
#include <variant>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "sandbox/id_map.h"

namespace deltabox {

// Owner as on the host, which is the owner inside.
struct ViewAttributes {
  mode_t mode = 0755;
  uid_t uid = 0;
  gid_t gid = 0;
  timespec modified{0, UTIME_OMIT};
};

// Paths are relative to the view's root.
struct ViewDir {
  std::string path;
  bool shows_host = false;  // the host's directory of this path shows through
  ViewAttributes attributes;
};
struct ViewFile {
  std::string path;
  std::string contents;
  ViewAttributes attributes;
};
struct ViewLink {
  std::string path;
  std::string target;
};
// A name of a directory that shows through which does not.
struct ViewHidden {
  std::string path;
};
using ViewEntry = std::variant<ViewDir, ViewFile, ViewLink, ViewHidden>;

struct SystemView {
  std::string path;    // absolute, on the host and inside
  bool whole = false;  // all of the host's directory shows through but hidden names; else what the entries say
  ViewAttributes attributes;
  std::vector<ViewEntry> entries;  // each after its directory
};

// Where in the mounted view its root is.
std::string root_of(const SystemView& view);

// In the host helper.
class ViewBuilder {
 public:
  // Makes the places on a tmpfs: <n> with a view's own entries, <n>-host for the host's directory.
  static ViewBuilder prepare(const std::vector<SystemView>& views, const IdMap& map);
  // The views, detached, in order. In a mount namespace of the process's own; it has no privileges but that of mounting
  // afterwards.
  std::vector<Result<UniqueFd>> mount(int user_namespace_fd);

 private:
  struct Place {
    std::string host_path;
    UniqueFd own;
    UniqueFd host;  // the mounted directory
  };
  Result<void> make_tmpfs();
  Result<Place> make_place(const SystemView& view, std::size_t index, const IdMap& map) const;
  Result<void> attach_hosts(int user_namespace_fd);

  UniqueFd tmpfs_;
  std::vector<Result<Place>> places_;
};

}  // namespace deltabox
