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
  CHECK(tree.commit(named("")).id == "cp-1");
  CHECK(tree.commit(named("")).parent == "cp-1");
  tree.set_head("cp-1");
  const Checkpoint& sibling = tree.commit(named(""));
  CHECK(sibling.id == "cp-3");
  CHECK(sibling.parent == "cp-1");
  CHECK(tree.head() == "cp-3");
  CHECK(tree.all().size() == 3);
}

TEST_CASE("checkpoints are found by id and by name, and stay where they are") {
  CheckpointTree tree;
  const Checkpoint* first = &tree.commit(named("before the patch"));
  for (int count = 0; count < 100; ++count) tree.commit(named(""));
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
  tree.commit(named("taken"));
  CHECK(must_fail(tree.check_name("taken")).code == Code::kAlreadyExists);
}

}  // namespace deltabox::test
