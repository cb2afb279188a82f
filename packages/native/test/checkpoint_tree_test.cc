#include "checkpoint/checkpoint_tree.h"

#include "expect.h"

namespace deltabox::test {

namespace {

Checkpoint named(const std::string& name) {
  Checkpoint checkpoint;
  checkpoint.name = name;
  return checkpoint;
}

}  // namespace

TEST_CASE("checkpoints get ids in order and hang below the head") {
  CheckpointTree tree;
  CHECK(tree.head().empty());
  CHECK(tree.commit(named(""), 0).id == "cp-1");
  CHECK(tree.commit(named(""), 0).parent == "cp-1");
  tree.set_head("cp-1", 0);
  const Checkpoint& sibling = tree.commit(named(""), 0);
  CHECK(sibling.id == "cp-3");
  CHECK(sibling.parent == "cp-1");
  CHECK(tree.head() == "cp-3");
  CHECK(tree.all().size() == 3);
}

TEST_CASE("checkpoints are found by id and by name, and stay where they are") {
  CheckpointTree tree;
  const Checkpoint* first = &tree.commit(named("before the patch"), 0);
  for (int count = 0; count < 100; ++count) tree.commit(named(""), 0);
  CHECK(must(tree.find("cp-1")) == first);
  CHECK(must(tree.find("before the patch")) == first);
  CHECK(must_fail(tree.find("cp-500")).code == Code::kCheckpointNotFound);
  CHECK(must_fail(tree.find("")).code == Code::kCheckpointNotFound);  // the unnamed ones have no name
}

TEST_CASE("names that can be told apart from ids and shown in a terminal are taken") {
  CheckpointTree tree;
  for (const char* name : {"", "a", "tests pass", "cp-", "cp-x", "cp-1a", "émile", "CP-1", "a/b"}) {
    CAPTURE(name);
    CHECK(tree.check_name(name).ok());
  }
  CHECK(tree.check_name(std::string(64, 'n')).ok());
}

TEST_CASE("names that can't are refused") {
  CheckpointTree tree;
  for (const std::string name : {" a", "a ", " ", "a\nb", "a\tb", "\x1b[31m", "\x7f", "cp-1", "cp-999999"}) {
    CAPTURE(name);
    CHECK(must_fail(tree.check_name(name)).code == Code::kInvalidArgument);
  }
  CHECK(must_fail(tree.check_name(std::string(65, 'n'))).code == Code::kInvalidArgument);
  CHECK(must_fail(tree.check_name(std::string("a\0b", 3))).code == Code::kInvalidArgument);
  tree.commit(named("taken"), 0);
  CHECK(must_fail(tree.check_name("taken")).code == Code::kAlreadyExists);
}

TEST_CASE("the least recently used goes first, but not the head, not what is pinned, cold or has no processes") {
  CheckpointTree tree;
  const auto take = [&](std::uint64_t now_ns) {
    auto image = std::make_shared<TreeImage>();
    image->processes.emplace_back();
    Checkpoint checkpoint;
    checkpoint.image = std::move(image);
    return tree.commit(std::move(checkpoint), now_ns).id;
  };
  Checkpoint files_alone;
  files_alone.image = std::make_shared<TreeImage>();
  tree.commit(std::move(files_alone), 1);
  const std::string pinned = take(2);
  tree.pin(pinned, true);
  const std::string first = take(3);
  const std::string second = take(4);
  CHECK(tree.least_recently_used({})->id == first);
  CHECK(tree.least_recently_used({first}) == nullptr);
  const std::string head = take(5);
  CHECK(tree.least_recently_used({first})->id == second);
  tree.set_head(first, 6);
  CHECK(tree.least_recently_used({})->id == second);
  tree.cool(second);
  CHECK(tree.least_recently_used({})->id == head);
  tree.pin(pinned, false);
  CHECK(tree.least_recently_used({})->id == pinned);
}

TEST_CASE("what is pinned is kept whatever the retention says") {
  CheckpointTree tree;
  const std::string pinned = tree.commit(named(""), 0).id;
  tree.pin(pinned, true);
  for (int count = 0; count < 5; ++count) tree.commit(named(""), 0);
  Retention retention;
  retention.keep_last = 2;
  for (const std::string& id : tree.expired(retention)) CHECK(id != pinned);
  CHECK(tree.expired(retention).size() == 4);
}

}  // namespace deltabox::test
