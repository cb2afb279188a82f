// Layers without a mount: looking names up in a stack, merging, digests; and the records beside them.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstdlib>

#include "checkpoint/records.h"
#include "deltacr/locks.h"
#include "deltafs/layer_digest.h"
#include "deltafs/merge.h"
#include "deltafs/stack_lookup.h"
#include "expect.h"
#include "scratch_dir.h"
#include "sys/files.h"

namespace deltabox::test {

namespace {

// Layers as directories of a scratch directory, which goes with its owner.
class Scratch {
 public:
  // An empty layer; `level` as merging counts it.
  std::shared_ptr<const Layer> layer(int level = 0) {
    auto layer = std::make_shared<Layer>();
    layer->id = ++count_;
    layer->level = level;
    const std::string home = dir_.path() + "/" + std::to_string(layer->id);
    must(sys::make_dir_at(AT_FDCWD, home, 0755));
    must(sys::make_dir_at(AT_FDCWD, home + "/upper", 0755));
    layer->base =
        std::make_shared<const UniqueFd>(must(sys::open_at(AT_FDCWD, home + "/upper", O_RDONLY | O_DIRECTORY)));
    return layer;
  }

 private:
  ScratchDir dir_;
  std::uint64_t count_ = 0;
};

void file(const Layer& layer, const std::string& path, const std::string& text) {
  must(sys::write_file_at(layer.base->get(), path, text));
}
void dir(const Layer& layer, const std::string& path, bool opaque = false) {
  must(sys::make_dir_at(layer.base->get(), path, 0755));
  if (!opaque) return;
  UniqueFd made = must(sys::open_at(layer.base->get(), path, O_RDONLY | O_DIRECTORY));
  REQUIRE(::fsetxattr(made.get(), "user.overlay.opaque", "y", 1, 0) == 0);
}
void whiteout(const Layer& layer, const std::string& path) {
  REQUIRE(::mknodat(layer.base->get(), path.c_str(), S_IFCHR, makedev(0, 0)) == 0);
}

// The layer's number and what is there, or "-".
std::string found(const LayerStack& stack, const std::string& path) {
  const std::optional<StackEntry> entry = must(lookup_in_stack(stack, path));
  if (!entry) return "-";
  return std::to_string(entry->layer->id) + (S_ISDIR(entry->info.st_mode) ? " dir" : " file");
}

}  // namespace

TEST_CASE("a name in a stack means what overlayfs would show") {
  Scratch scratch;
  const LayerStack stack{scratch.layer(), scratch.layer(), scratch.layer()};
  dir(*stack[0], "a");
  file(*stack[0], "a/low", "1");
  file(*stack[0], "a/both", "1");
  file(*stack[0], "gone", "1");
  dir(*stack[0], "hidden");
  file(*stack[0], "hidden/inside", "1");
  dir(*stack[1], "a");
  file(*stack[1], "a/both", "2");
  whiteout(*stack[1], "gone");
  dir(*stack[1], "hidden", true);
  file(*stack[2], "a-file", "3");
  CHECK(found(stack, "a") == "2 dir");
  CHECK(found(stack, "a/low") == "1 file");
  CHECK(found(stack, "a/both") == "2 file");
  CHECK(found(stack, "gone") == "-");
  CHECK(found(stack, "hidden") == "2 dir");
  CHECK(found(stack, "hidden/inside") == "-");
  CHECK(found(stack, "a-file") == "3 file");
  CHECK(found(stack, "a-file/below") == "-");
  CHECK(found(stack, "") == "-");
}

TEST_CASE("a merged layer shows on its base what the layers showed, and hides what they hid") {
  Scratch scratch;
  const auto base = scratch.layer();
  dir(*base, "both");
  file(*base, "both/base", "0");
  file(*base, "both/removed", "0");
  dir(*base, "replaced");
  file(*base, "replaced/old", "0");
  const LayerStack run{scratch.layer(), scratch.layer(), scratch.layer()};
  dir(*run[0], "both");
  file(*run[0], "both/first", "1");
  whiteout(*run[0], "both/removed");
  dir(*run[0], "new");
  file(*run[0], "new/passing", "1");
  whiteout(*run[0], "replaced");
  dir(*run[1], "new");
  whiteout(*run[1], "new/passing");
  file(*run[1], "replaced", "a file in a directory's place");
  dir(*run[2], "both");
  file(*run[2], "both/first", "3");
  whiteout(*run[2], "replaced");
  const auto merged = scratch.layer(1);
  must(merge_layers(run, {base}, merged->base->get()));

  LayerStack apart{base};
  apart.insert(apart.end(), run.begin(), run.end());
  const LayerStack together{base, merged};
  for (const char* path :
       {"both", "both/base", "both/first", "both/removed", "new", "new/passing", "replaced", "replaced/old"}) {
    CAPTURE(path);
    CHECK((found(apart, path) == "-") == (found(together, path) == "-"));
  }
  CHECK(must(sys::read_file_at(merged->base->get(), "both/first", 16)) == "3");
  // Nothing lies below `new`: overlayfs would list a whiteout there.
  UniqueFd fresh = must(sys::open_at(merged->base->get(), "new", O_RDONLY | O_DIRECTORY));
  CHECK(sys::is_dir_empty(fresh.get()));
  // The same inode, not a copy of it.
  struct stat before {};
  struct stat after {};
  REQUIRE(::fstatat(run[2]->base->get(), "both/first", &before, 0) == 0);
  REQUIRE(::fstatat(merged->base->get(), "both/first", &after, 0) == 0);
  CHECK(before.st_ino == after.st_ino);
}

TEST_CASE("four neighbours of one level are merged, the topmost group first, never the base") {
  Scratch scratch;
  const auto stack_of = [&](const std::vector<int>& levels) {
    LayerStack stack;
    for (const int level : levels) stack.push_back(scratch.layer(level));
    return stack;
  };
  CHECK(!choose_run(stack_of({0, 0, 0, 0})));
  CHECK(!choose_run(stack_of({0, 1, 1, 1, 0, 0, 0})));
  const std::optional<LayerRun> run = choose_run(stack_of({0, 1, 1, 1, 1, 0, 0, 0, 0, 0}));
  REQUIRE(run);
  CHECK(run->first == 5);
  CHECK(run->count == 5);
  const std::optional<LayerRun> lower = choose_run(stack_of({0, 1, 1, 1, 1, 0, 0}));
  REQUIRE(lower);
  CHECK(lower->first == 1);
  CHECK(lower->count == 4);
}

TEST_CASE("a run is replaced where the stack holds it, and nowhere else") {
  Scratch scratch;
  const LayerStack layers{scratch.layer(), scratch.layer(), scratch.layer(), scratch.layer()};
  const auto stack = std::make_shared<const LayerStack>(layers);
  const auto merged = scratch.layer(1);
  CHECK(*with_merged(stack, {layers[1], layers[2]}, merged) == LayerStack{layers[0], merged, layers[3]});
  CHECK(with_merged(stack, {layers[2], layers[1]}, merged) == stack);
}

TEST_CASE("a digest tells every change of a layer") {
  Scratch scratch;
  const auto layer = scratch.layer();
  dir(*layer, "d");
  file(*layer, "d/f", "contents");
  CHECK(must(check_digest(*layer, false)).empty());
  CHECK(!must(check_digest(*layer, true)).empty());
  must(write_digest(*layer));
  CHECK(must(check_digest(*layer, true)).empty());
  struct stat info {};
  REQUIRE(::fstatat(layer->base->get(), "d/f", &info, 0) == 0);
  file(*layer, "d/f", "Contents");
  const timespec times[2] = {info.st_atim, info.st_mtim};
  REQUIRE(::utimensat(layer->base->get(), "d/f", times, 0) == 0);
  CHECK(!must(check_digest(*layer, true)).empty());
  file(*layer, "d/f", "contents");
  REQUIRE(::utimensat(layer->base->get(), "d/f", times, 0) == 0);
  CHECK(must(check_digest(*layer, true)).empty());
  REQUIRE(::fchmodat(layer->base->get(), "d/f", 0600 ^ info.st_mode, 0) == 0);
  CHECK(!must(check_digest(*layer, true)).empty());
}

TEST_CASE("a record is read back whole, or refused") {
  const std::string packed = pack_record("payload");
  CHECK(must(unpack_record(packed, "it")) == "payload");
  for (std::size_t index = 0; index < packed.size(); ++index) {
    std::string broken = packed;
    broken[index] = static_cast<char>(broken[index] ^ 1);
    CAPTURE(index);
    CHECK(!unpack_record(broken, "it").ok());
    CHECK(!unpack_record(packed.substr(0, index), "it").ok());
  }
  std::string other_version = packed;
  other_version[4] = 2;
  CHECK(unpack_record(other_version, "it").error().code == Code::kUnsupported);
}

TEST_CASE("locks are read from what the kernel prints") {
  const std::vector<FileLock> locks = parse_locks(
      "pos:\t0\nflags:\t02\nlock:\t1: FLOCK  ADVISORY  WRITE 12 08:02:131 0 EOF\n"
      "lock:\t2: POSIX  ADVISORY  READ 12 08:02:131 10 19\nlock:\t3: OFDLCK ADVISORY  WRITE -1 08:02:131 5 EOF\n"
      "lock:\t4: LEASE  ACTIVE    READ 12 08:02:131 0 EOF\n");
  REQUIRE(locks.size() == 3);
  CHECK(locks[0] == FileLock{LockKind::kFlock, true, 0, 0});
  CHECK(locks[1] == FileLock{LockKind::kPosix, false, 10, 10});
  CHECK(locks[2] == FileLock{LockKind::kOpenFile, true, 5, 0});
}

}  // namespace deltabox::test
