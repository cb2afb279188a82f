#include "sandbox/id_map.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sstream>

#include "expect.h"
#include "sys/files.h"

namespace deltabox::test {

namespace {

// A child in a user namespace of its own that waits to be killed.
class NamespaceChild {
 public:
  NamespaceChild() {
    auto [ready, announce] = must(sys::make_pipe(0));
    pid_ = ::fork();
    REQUIRE(pid_ >= 0);
    if (pid_ == 0) {
      const char made = ::unshare(CLONE_NEWUSER) == 0 ? 'y' : 'n';
      if (::write(announce.get(), &made, 1) != 1) ::_exit(1);
      for (;;) ::pause();
    }
    char made = 'n';
    REQUIRE(::read(ready.get(), &made, 1) == 1);
    REQUIRE(made == 'y');
  }
  ~NamespaceChild() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  pid_t pid() const { return pid_; }
  // The three numbers of the map's only line.
  std::vector<std::uint64_t> map_of(const char* file) const {
    std::istringstream text(must(sys::read_file_at(AT_FDCWD, "/proc/" + std::to_string(pid_) + "/" + file, 4096)));
    std::vector<std::uint64_t> numbers;
    for (std::uint64_t number = 0; text >> number;) numbers.push_back(number);
    return numbers;
  }

 private:
  pid_t pid_ = -1;
};

}  // namespace

TEST_CASE("root gets a range of nobody's ids, others their own id") {
  const IdMap map = must(choose_id_map());
  if (::geteuid() != 0) {
    CHECK_FALSE(map.ranged);
    CHECK(map.count == 1);
    CHECK(map.outside_uid == ::geteuid());
    CHECK(map.outside_gid == ::getegid());
  } else if (map.ranged) {
    CHECK(map.outside_uid == kRangeFirst);
    CHECK(map.outside_gid == kRangeFirst);
    CHECK(map.count == kRangeCount);
  }
}

TEST_CASE("the chosen map can be written, and makes the caller's side root inside") {
  const NamespaceChild child;
  const IdMap map = must(choose_id_map());
  UniqueFd proc = must(sys::open_at(AT_FDCWD, "/proc", O_PATH | O_DIRECTORY));
  must(write_id_maps(proc.get(), child.pid(), map));
  CHECK(child.map_of("uid_map") == std::vector<std::uint64_t>{0, map.outside_uid, map.count});
  CHECK(child.map_of("gid_map") == std::vector<std::uint64_t>{0, map.outside_gid, map.count});
  // A map is written once.
  CHECK(must_fail(write_id_maps(proc.get(), child.pid(), map)).code == Code::kPermissionDenied);
}

TEST_CASE("a map for a process that is gone is an error") {
  UniqueFd proc = must(sys::open_at(AT_FDCWD, "/proc", O_PATH | O_DIRECTORY));
  const pid_t gone = ::fork();
  if (gone == 0) ::_exit(0);
  ::waitpid(gone, nullptr, 0);
  CHECK(must_fail(write_id_maps(proc.get(), gone, must(choose_id_map()))).code == Code::kNotFound);
}

}  // namespace deltabox::test
