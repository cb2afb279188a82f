#include "sandbox/skeleton.h"

#include <map>
#include <set>
#include <sstream>

#include "expect.h"

namespace deltabox::test {

namespace {

const std::vector<std::string> kVolumes{"/workspace", "/tmp", "/var/lib/data"};

std::string path_of(const SkeletonOperation& operation) {
  return std::visit([](const auto& step) { return step.path; }, operation);
}

template <typename T>
std::vector<T> all_of(const std::vector<SkeletonOperation>& plan) {
  std::vector<T> found;
  for (const SkeletonOperation& operation : plan) {
    if (const T* step = std::get_if<T>(&operation)) found.push_back(*step);
  }
  return found;
}

}  // namespace

TEST_CASE("every operation's place was made before it, and nothing is made twice") {
  std::set<std::string> dirs{""};
  std::set<std::string> made;
  for (const SkeletonOperation& operation : plan_skeleton(kVolumes)) {
    const std::string path = path_of(operation);
    CAPTURE(path);
    if (std::holds_alternative<MaskFile>(operation)) {
      REQUIRE(path.starts_with("/proc/"));
      continue;
    }
    REQUIRE(path.starts_with('/'));
    REQUIRE(path.find("..") == std::string::npos);
    REQUIRE(dirs.contains(path.substr(0, path.rfind('/'))));
    const bool is_mount = std::holds_alternative<Bind>(operation) || std::holds_alternative<MountProc>(operation) ||
                          std::holds_alternative<MountDevpts>(operation);
    if (is_mount) {
      REQUIRE(made.contains(path));
    } else {
      REQUIRE(made.insert(path).second);
    }
    if (std::holds_alternative<MakeDir>(operation)) dirs.insert(path);
  }
}

TEST_CASE("volumes and the engine's places have their directories") {
  std::map<std::string, mode_t> modes;
  for (const MakeDir& step : all_of<MakeDir>(plan_skeleton(kVolumes))) modes[step.path] = step.mode;
  for (const std::string& volume : kVolumes) CHECK(modes.contains(volume));
  for (const char* path : {kStorePoint, kBasePoint, kParkingPoint}) CHECK(modes.at(path) == 0700);
}

TEST_CASE("the name service is the host's only with the host's network") {
  SkeletonOptions host;
  host.host_network = true;
  const auto binds_names = [](const std::vector<SkeletonOperation>& plan) {
    for (const Bind& step : all_of<Bind>(plan)) {
      if (step.path == "/etc/resolv.conf") return true;
    }
    return false;
  };
  CHECK_FALSE(binds_names(plan_skeleton(kVolumes)));
  CHECK(binds_names(plan_skeleton(kVolumes, host)));
}

TEST_CASE("trees of the host get a place each: files for certificates, else directories") {
  SkeletonOptions options;
  options.trees = {{std::string(kCertificatePoint) + "/0.pem", false}, {"/data/set", true}};
  const std::vector<SkeletonOperation> plan = plan_skeleton(kVolumes, options);
  std::set<std::string> dirs;
  std::set<std::string> files;
  for (const MakeDir& step : all_of<MakeDir>(plan)) dirs.insert(step.path);
  for (const MakeFile& step : all_of<MakeFile>(plan)) files.insert(step.path);
  CHECK(files.contains(options.trees[0].path));
  CHECK(dirs.contains(options.trees[1].path));
  CHECK(all_of<AttachTree>(plan).size() == 2);
}

TEST_CASE("with an image nothing of the host but devices is bound") {
  SkeletonOptions options;
  options.from_image = true;
  options.image_links = {{"/bin", "usr/bin"}};
  const std::vector<SkeletonOperation> plan = plan_skeleton({"/usr", "/etc", "/tmp"}, options);
  for (const Bind& step : all_of<Bind>(plan)) CHECK(step.path.starts_with("/dev/"));
  bool linked = false;
  for (const MakeSymlink& step : all_of<MakeSymlink>(plan)) linked = linked || step.path == "/bin";
  CHECK(linked);
}

TEST_CASE("only devices are writable binds") {
  for (const Bind& step : all_of<Bind>(plan_skeleton(kVolumes))) {
    CAPTURE(step.path);
    CHECK(step.writable == step.path.starts_with("/dev/"));
    CHECK((!step.writable || !step.is_dir));
  }
}

TEST_CASE("the host's people and secrets stay outside") {
  const std::vector<SkeletonOperation> plan = plan_skeleton(kVolumes);
  for (const Bind& step : all_of<Bind>(plan)) {
    CAPTURE(step.host_path);
    for (const char* secret :
         {"/home", "/root", "/var", "/run", "/boot", "/sys", "/etc/shadow", "/etc/ssh", "/etc/passwd"}) {
      CHECK(step.host_path != secret);
      CHECK_FALSE(step.host_path.starts_with(std::string(secret) + "/"));
    }
    CHECK(step.host_path != "/etc");
    CHECK(step.host_path != "/dev");
    CHECK(step.host_path != "/");
  }
  for (const MakeFile& step : all_of<MakeFile>(plan)) {
    if (step.path != "/etc/passwd") continue;
    CHECK(step.contents.find("root:") != std::string::npos);
    std::istringstream lines(step.contents);
    for (std::string line; std::getline(lines, line);) {
      CAPTURE(line);
      std::istringstream fields(line);
      std::string name, password, id;
      std::getline(std::getline(std::getline(fields, name, ':'), password, ':'), id, ':');
      CHECK((std::stol(id) < 1000 || std::stol(id) == 65534));
    }
  }
}

}  // namespace deltabox::test
