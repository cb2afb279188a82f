#include "deltafs/volume.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>

#include "expect.h"
#include "sandbox/namespaces.h"
#include "sandbox/skeleton.h"
#include "sys/files.h"

namespace deltabox::test {

namespace {

constexpr const char* kWorkspace = "/workspace";
constexpr const char* kScratch = "/scratch";

// A directory on a real file system (an overlay's upper can't lie on an overlay), removed with its owner.
class WorkDir {
 public:
  WorkDir() {
    const char* given = std::getenv("DELTABOX_TEST_DIR");
    path_ = std::string(given != nullptr ? given : "/var/tmp") + "/deltabox-native-XXXXXX";
    REQUIRE(::mkdtemp(path_.data()) != nullptr);
    REQUIRE(::chmod(path_.c_str(), 0711) == 0);
    for (const char* name : {"/workspace", "/store"}) REQUIRE(::mkdir((path_ + name).c_str(), 0755) == 0);
    UniqueFd file = must(sys::open_at(AT_FDCWD, path_ + "/workspace/from-host", O_WRONLY | O_CREAT, 0644));
    must(sys::write_all(file.get(), "host", 4));
  }
  // overlayfs leaves directories without any permission in its work directories.
  ~WorkDir() {
    const std::string command = "chmod -R u+rwx '" + path_ + "' && rm -rf '" + path_ + "'";
    CHECK(std::system(command.c_str()) == 0);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// The sandbox that a test body works in: inside its namespaces, in M1, with two volumes in place.
struct Place {
  SandboxNamespaces namespaces;
  LayerStore layers;
  std::vector<Volume> volumes;

  int root() const { return namespaces.m1_root.get(); }
  Result<void> write(const std::string& path, const std::string& text) const {
    return sys::write_file_at(root(), path, text);
  }
  // The contents, or "-" when there is no such file.
  std::string read(const std::string& path) const {
    const Result<std::string> text = sys::read_file_at(root(), path, 1u << 20);
    return text.ok() ? text.value() : "-";
  }
  // Seals the volume as a checkpoint does; the old overlay, parked.
  Result<UniqueFd> seal(std::size_t volume) {
    TRY(namespaces.enter_m0());
    StagedOverlay staged = TRY(volumes[volume].stage_seal(layers));
    TRY(namespaces.enter_m1());
    return volumes[volume].switch_to(std::move(staged), root(), namespaces.parking.get(), std::to_string(volume));
  }
  Result<UniqueFd> go_to(std::size_t volume, std::shared_ptr<const LayerStack> stack) {
    TRY(namespaces.enter_m0());
    StagedOverlay staged = TRY(volumes[volume].stage(layers, std::move(stack)));
    TRY(namespaces.enter_m1());
    return volumes[volume].switch_to(std::move(staged), root(), namespaces.parking.get(), std::to_string(volume));
  }
};

Error unexpected(const std::string& what) { return make_error(Code::kInternal, what); }

#define EXPECT(condition) \
  if (!(condition)) return unexpected(std::string(__FILE__) + ":" + std::to_string(__LINE__) + ": " #condition)

std::string own_dir() {
  const std::string self = must(sys::read_link_at(AT_FDCWD, "/proc/self/exe"));
  return self.substr(0, self.rfind('/'));
}

Result<Place> build_place(const WorkDir& dir, const std::string& init_binary) {
  Place place;
  NamespaceConfig config;
  config.id_map = TRY(choose_id_map());
  config.bases = {dir.path() + "/workspace"};
  config.store = dir.path() + "/store";
  config.init_binary = init_binary;
  config.volume_paths = {kWorkspace, kScratch};
  if (config.id_map.ranged &&
      ::chown(config.store.c_str(), config.id_map.outside_uid, config.id_map.outside_gid) != 0) {
    return os_error("chown", config.store);
  }
  place.namespaces = TRY(build_namespaces(config));
  place.layers = TRY(LayerStore::create(place.namespaces.store.get()));
  const VolumeSpec workspace{"workspace", kWorkspace, 0755, 0, {}};
  const VolumeSpec scratch{"scratch", kScratch, 01777, -1, {"made-before"}};
  for (const VolumeSpec& spec : {workspace, scratch}) {
    place.volumes.push_back(TRY(Volume::create(spec, place.layers, place.namespaces.bases)));
  }
  TRY(place.namespaces.enter_m1());
  for (Volume& volume : place.volumes) TRY(volume.attach(place.root()));
  return place;
}

// Runs the body in a child, since building namespaces changes the process for good, and fails with its sentence.
void in_sandbox(const std::function<Result<void>(Place&)>& body) {
  const WorkDir dir;
  // The executable lies in a directory of its own beneath init's.
  const std::string init_binary = own_dir() + "/../deltabox-init";
  auto [verdict, report] = must(sys::make_pipe(0));
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    verdict.reset();
    Result<Place> place = build_place(dir, init_binary);
    const Result<void> result = place.ok() ? body(place.value()) : Result<void>(place.error());
    if (!result.ok()) {
      const std::string sentence = result.error().describe();
      (void)sys::write_all(report.get(), sentence.data(), sentence.size());
    }
    ::_exit(result.ok() ? 0 : 1);
  }
  report.reset();
  const std::string sentence = must(sys::read_all(verdict.get(), 65536));
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CAPTURE(sentence);
  CHECK((WIFEXITED(status) && WEXITSTATUS(status) == 0));
}

Result<void> check_fresh(Place& place) {
  EXPECT(place.read("workspace/from-host") == "host");
  EXPECT(!place.volumes[0].changed());
  EXPECT(!place.volumes[1].changed());
  struct stat info {};
  EXPECT(::fstatat(place.root(), "scratch/made-before", &info, 0) == 0 && S_ISDIR(info.st_mode));
  EXPECT(::fstatat(place.root(), "scratch", &info, 0) == 0 && (info.st_mode & 07777) == 01777);
  return {};
}

Result<void> check_seal_and_return(Place& place) {
  TRY(place.write("workspace/a", "first"));
  TRY(place.write("workspace/from-host", "changed"));
  EXPECT(place.volumes[0].changed());
  EXPECT(!place.volumes[1].changed());
  const auto before = place.volumes[0].live_stack();
  const auto sealed = place.volumes[0].writable_layer();
  const std::uint64_t mount_id = place.volumes[0].mount_id();
  UniqueFd parked = TRY(place.seal(0));
  EXPECT(place.volumes[0].mount_id() != mount_id);
  EXPECT(place.volumes[0].live_stack()->size() == before->size() + 1);
  EXPECT(place.volumes[0].live_stack()->back() == sealed);
  EXPECT(!place.volumes[0].changed());
  EXPECT(place.read("workspace/a") == "first");
  const LayerUsage usage = TRY(measure_layer(*sealed));
  EXPECT(usage.files == 2);

  // The sealed layer stays, whatever is done on top.
  const auto checkpoint = place.volumes[0].live_stack();
  TRY(place.write("workspace/a", "second"));
  TRY(place.write("workspace/b", "new"));
  EXPECT(::unlinkat(place.root(), "workspace/from-host", 0) == 0);
  EXPECT(place.volumes[0].changed());
  EXPECT(TRY(sys::read_file_at(TRY(sealed->open())->get(), "a", 100)) == "first");
  EXPECT(TRY(measure_layer(*sealed)).files == usage.files);
  TRY(release_parked(std::move(parked), place.namespaces.self_fd_dir.get()));

  parked = TRY(place.go_to(0, checkpoint));
  EXPECT(place.read("workspace/a") == "first");
  EXPECT(place.read("workspace/b") == "-");
  EXPECT(place.read("workspace/from-host") == "changed");
  TRY(release_parked(std::move(parked), place.namespaces.self_fd_dir.get()));
  parked = TRY(place.go_to(0, before));
  EXPECT(place.read("workspace/a") == "-");
  EXPECT(place.read("workspace/from-host") == "host");
  return {};
}

Result<void> check_staged_early(Place& place) {
  // A seal staged before the writes that it will show.
  TRY(place.write("workspace/before", "1"));
  TRY(place.namespaces.enter_m0());
  StagedOverlay staged = TRY(place.volumes[0].stage_seal(place.layers));
  TRY(place.namespaces.enter_m1());
  TRY(place.write("workspace/after", "2"));
  EXPECT(::mkdirat(place.root(), "workspace/dir", 0755) == 0);
  TRY(place.write("workspace/dir/deep", "3"));
  EXPECT(::unlinkat(place.root(), "workspace/from-host", 0) == 0);
  const UniqueFd parked =
      TRY(place.volumes[0].switch_to(std::move(staged), place.root(), place.namespaces.parking.get(), "0"));
  EXPECT(place.read("workspace/before") == "1");
  EXPECT(place.read("workspace/after") == "2");
  EXPECT(place.read("workspace/dir/deep") == "3");
  EXPECT(place.read("workspace/from-host") == "-");
  return {};
}

Result<void> check_changed(Place& place) {
  const Volume& volume = place.volumes[0];
  const auto changed_by = [&](const std::function<void()>& change) -> Result<bool> {
    if (volume.changed()) TRY(place.seal(0));
    change();
    return volume.changed();
  };
  TRY(place.write("workspace/file", "x"));
  EXPECT(::mkdirat(place.root(), "workspace/dir", 0755) == 0);
  TRY(place.write("workspace/dir/file", "x"));
  EXPECT(!TRY(changed_by([] {})));
  EXPECT(!TRY(changed_by([&] { place.read("workspace/file"); })));
  EXPECT(TRY(changed_by([&] { (void)place.write("workspace/dir/file", "y"); })));
  EXPECT(TRY(changed_by([&] { ::fchmodat(place.root(), "workspace/dir/file", 0600, 0); })));
  EXPECT(TRY(changed_by([&] { ::unlinkat(place.root(), "workspace/dir/file", 0); })));
  EXPECT(TRY(changed_by([&] { ::symlinkat("to", place.root(), "workspace/link"); })));
  EXPECT(TRY(changed_by([&] { ::fchmodat(place.root(), "workspace", 0700, 0); })));
  return {};
}

Result<void> check_root_mode(Place& place) {
  EXPECT(::fchmodat(place.root(), "workspace", 0711, 0) == 0);
  TRY(place.seal(0));
  struct stat info {};
  EXPECT(::fstatat(place.root(), "workspace", &info, 0) == 0 && (info.st_mode & 07777) == 0711);
  return {};
}

Result<void> check_depth(Place& place) {
  for (int depth = 1; depth <= 60; ++depth) {
    TRY(place.write("workspace/layer-" + std::to_string(depth), std::to_string(depth)));
    UniqueFd parked = TRY(place.seal(0));
    TRY(release_parked(std::move(parked), place.namespaces.self_fd_dir.get()));
  }
  EXPECT(place.read("workspace/layer-1") == "1");
  EXPECT(place.read("workspace/layer-60") == "60");
  EXPECT(place.read("workspace/from-host") == "host");
  auto too_deep = std::make_shared<LayerStack>(*place.volumes[0].live_stack());
  while (too_deep->size() <= kMaxStackDepth) too_deep->push_back(too_deep->back());
  TRY(place.namespaces.enter_m0());
  const Result<StagedOverlay> staged = place.volumes[0].stage(place.layers, too_deep);
  EXPECT(!staged.ok() && staged.error().code == Code::kTooLarge);
  return {};
}

Result<void> check_hidden(Place& place) {
  TRY(place.write("workspace/a", "x"));
  const UniqueFd parked = TRY(place.seal(0));
  // M1 has neither store nor base, and the parking place lies under a cover.
  const UniqueFd m1_root = TRY(sys::open_at(place.root(), ".", O_RDONLY | O_DIRECTORY));
  for (const char* point : {kStorePoint, kBasePoint, kParkingPoint}) {
    const UniqueFd dir = TRY(sys::open_at(m1_root.get(), point + 1, O_RDONLY | O_DIRECTORY));
    EXPECT(sys::is_dir_empty(dir.get()));
  }
  return {};
}

Result<void> check_read_only(Place& place) {
  for (const char* path : {"new-file", "usr/new-file", "etc/passwd"}) {
    const Result<void> written = place.write(path, "x");
    EXPECT(!written.ok() && written.error().os_errno == EROFS);
  }
  // The host's directory is below the overlay: nothing reaches it.
  TRY(place.write("workspace/from-host", "changed"));
  EXPECT(TRY(sys::read_file_at(place.namespaces.bases[0].get(), "from-host", 100)) == "host");
  return {};
}

}  // namespace

TEST_CASE("volumes show their base and count as unchanged") { in_sandbox(check_fresh); }
TEST_CASE("a sealed layer stays as it is, and every state can be had again") { in_sandbox(check_seal_and_return); }
TEST_CASE("an overlay staged early shows what was written after") { in_sandbox(check_staged_early); }
TEST_CASE("a volume counts as changed by every kind of change and by no reading") { in_sandbox(check_changed); }
TEST_CASE("a change of the volume's own directory goes along") { in_sandbox(check_root_mode); }
TEST_CASE("a volume takes many layers, and refuses more than one overlay can stack") { in_sandbox(check_depth); }
TEST_CASE("tasks see neither store nor base nor parked overlays") { in_sandbox(check_hidden); }
TEST_CASE("the skeleton is read-only and the host's files stay as they are") { in_sandbox(check_read_only); }

}  // namespace deltabox::test
