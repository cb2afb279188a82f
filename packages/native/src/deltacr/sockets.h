// Reads sockets in a pause, through duplicates, and leaves them as they are. Which unix socket is whose other end only
// the kernel's socket diagnosis tells (sock_diag(7)), asked in the tasks' network namespace.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "deltacr/descriptors.h"
#include "deltacr/image.h"

namespace deltabox {

class TreeCapture;

class SocketReader {
 public:
  SocketReader() = default;
  explicit SocketReader(int self_fd_dir) : self_fd_dir_(self_fd_dir) {}
  // Starts a capture: volumes as they are mounted now.
  void begin(const std::vector<VolumeView>& volumes);
  // A description of the image that is a socket.
  void meet(std::uint32_t description, InsidePid pid, int fd, UniqueFd duplicate);
  // Fills the descriptions in: those that are captured become DescriptionKind::kSocket, the others are warned of.
  // Processes must be held.
  Result<void> read(TreeImage& image, TreeCapture& capture, std::vector<Notice>& warnings);

 private:
  struct Met {
    std::uint32_t description = 0;
    InsidePid pid;
    int fd = -1;
    UniqueFd duplicate;
    SocketState state;
    std::uint64_t peer_inode = 0;  // of unix
    std::string shortcoming;       // why it is not captured, or not in full
    bool is_known = false;
  };
  Result<void> open_diagnosis(const TreeImage& image, TreeCapture& capture);
  Result<void> read_one(Met& met, std::uint64_t inode);
  Result<void> diagnose_unix(Met& met, std::uint64_t inode) const;
  void find_node(Met& met) const;
  void find_peers(const TreeImage& image);
  bool find_target(Met& met, const TreeImage& image);

  std::vector<VolumeView> volumes_;
  int self_fd_dir_ = -1;
  std::vector<Met> met_;
  UniqueFd diagnosis_;  // a netlink socket of our own
};

}  // namespace deltabox
