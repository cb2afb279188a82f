// A directory on a real disk, which goes with its owner.
#pragma once

#include <doctest/doctest.h>
#include <fcntl.h>

#include <cstdlib>
#include <string>

#include "expect.h"
#include "sys/files.h"

namespace deltabox::test {

class ScratchDir {
 public:
  ScratchDir() {
    const char* given = std::getenv("DELTABOX_TEST_DIR");
    path_ = std::string(given != nullptr ? given : "/var/tmp") + "/deltabox-scratch-XXXXXX";
    REQUIRE(::mkdtemp(path_.data()) != nullptr);
    fd_ = must(sys::open_at(AT_FDCWD, path_, O_RDONLY | O_DIRECTORY));
  }
  ScratchDir(const ScratchDir&) = delete;
  ScratchDir& operator=(const ScratchDir&) = delete;
  ~ScratchDir() { CHECK(std::system(("rm -rf '" + path_ + "'").c_str()) == 0); }

  const std::string& path() const { return path_; }
  int fd() const { return fd_.get(); }

 private:
  std::string path_;
  UniqueFd fd_;
};

}  // namespace deltabox::test
