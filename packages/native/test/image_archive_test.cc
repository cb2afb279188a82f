// Process states as bytes (images/image_archive.h).
#include "images/image_archive.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <cstring>

#include "expect.h"
#include "random.h"
#include "scratch_dir.h"
#include "sys/files.h"

namespace deltabox::test {

namespace {

std::shared_ptr<const FileContents> file_with(StoredFiles& files, const std::string& data) {
  auto contents = std::make_shared<FileContents>();
  contents->file = must(files.make());
  must(sys::write_all(must(contents->file->open(O_RDWR)).get(), data.data(), data.size()));
  contents->mode = 0640;
  contents->times[1] = {7, 8};
  return contents;
}

std::shared_ptr<const PipeHandle> make_pipe_handle() {
  auto [read_end, write_end] = must(sys::make_pipe(0));
  auto handle = std::make_shared<PipeHandle>();
  handle->inode = must(sys::stat_fd(read_end.get())).st_ino;
  handle->path_fd = std::move(read_end);
  return handle;
}

// One of everything, with values that differ.
TreeImage sample(StoredFiles& stored, PageStore& store) {
  std::vector<PageId> pages;
  must(store.allocate(3, pages));
  std::vector<PageUpdate> updates;
  for (std::size_t index = 0; index < pages.size(); ++index) {
    std::memset(store.bytes(pages[index]), static_cast<int>(index) + 1, kPageSize);
    updates.push_back({100 + index * index, pages[index]});
  }
  updates.push_back({200, kZeroPage});

  TreeImage image;
  ProcessImage process;
  process.incarnation = 11;
  process.address_space = 12;
  process.pid = InsidePid{3};
  process.parent = InsidePid{1};
  ThreadImage thread;
  thread.inside = InsidePid{3};
  thread.registers.rip = 0x1234;
  thread.extended_state.resize(832, std::byte{5});
  thread.pending.resize(2);
  thread.pending[1].si_signo = 10;
  process.threads = {thread, thread};
  auto program = std::make_shared<ProgramImage>();
  program->path = "/usr/bin/python3";
  program->auxiliary_vector = std::string("\0a\0", 3);
  process.program = program;
  auto mappings = std::make_shared<MappingList>(2);
  (*mappings)[0].name = "[heap]";
  (*mappings)[1].shared = true;
  process.mappings = mappings;
  process.pages = PageMap::updated(PageMap(), updates, store);
  process.credentials.groups = {4, 5};
  process.descriptors = {{0, false, 0}, {5, true, 1}, {6, false, 2}, {7, false, 3}, {8, false, 4}};
  process.locks = {{5, {LockKind::kPosix, true, 1, 2}}};
  process.posix_timers.resize(1);
  image.processes.push_back(std::move(process));

  image.descriptions.resize(5);
  image.descriptions[0].kind = DescriptionKind::kBoundary;
  image.descriptions[0].inode = 77;
  image.descriptions[1].kind = DescriptionKind::kPipe;
  image.descriptions[1].pipe = make_pipe_handle();
  image.descriptions[1].inode = image.descriptions[1].pipe->inode;
  image.descriptions[2].kind = DescriptionKind::kObject;
  EpollState epoll;
  epoll.entries = {{1, 2, 3, 4, 5, 6, 1}};
  image.descriptions[2].state = epoll;
  image.descriptions[3].kind = DescriptionKind::kSocket;
  auto socket = std::make_shared<SocketState>();
  socket->queue = {"one", ""};
  socket->options = {{1, 2, "value"}};
  image.descriptions[3].socket = socket;
  image.descriptions[4].kind = DescriptionKind::kObject;
  image.descriptions[4].state = InotifyState{{{1, 2, 3, 4, 5, "/workspace"}}, 6};
  image.descriptions[4].locks.resize(1);
  image.pipes.push_back({image.descriptions[1].pipe, "in the pipe", {2}, 65536});
  image.terminals.resize(1);
  image.deleted_files.push_back({"/workspace", 1, 2, file_with(stored, "without a name")});
  SharedMemory memory;
  memory.id = 9;
  memory.name = "memfd:shared";
  memory.pages = image.processes[0].pages;
  image.shared_memory.push_back(std::move(memory));
  image.zombies.push_back({InsidePid{8}, InsidePid{3}, 1, 1, 256});
  image.commands[4] = std::make_shared<CommandImage>(
      CommandImage{InsidePid{3}, "label", "user", {"python3", "-u"}, false, true, {{77, 1}}});
  return image;
}

}  // namespace

TEST_CASE("an image that was read is the one that was written") {
  const ScratchDir dir;
  const ScratchDir page_dir;
  UniqueFd self_fd_dir = must(sys::open_at(AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY));
  PageStore store;
  PageFiles files(page_dir.fd(), store);
  StoredFiles stored = must(StoredFiles::create(dir.fd()));
  const TreeImage image = sample(stored, store);
  files.begin_file();
  const WrittenImage written = must(write_image(image, files));
  must(write_page_file(page_dir.fd(), files.end_file()));
  CHECK(written.files == std::set<std::uint64_t>{1});

  PageStore other;
  PageFiles readers(page_dir.fd(), other);
  readers.begin_after(1);
  const auto read = must(read_image(written.bytes, "it", {readers, other, self_fd_dir.get(), stored}));
  REQUIRE(read->processes.size() == 1);
  const ProcessImage& process = read->processes[0];
  CHECK(process.threads[1].registers.rip == 0x1234);
  CHECK(process.threads[0].pending[1].si_signo == 10);
  CHECK(process.program->auxiliary_vector == std::string("\0a\0", 3));
  CHECK(*process.mappings == *image.processes[0].mappings);
  CHECK(process.credentials == image.processes[0].credentials);
  CHECK(process.pages.size() == 4);
  CHECK(process.pages.find(200) == kZeroPage);
  CHECK(std::memcmp(other.bytes(*process.pages.find(104)), store.bytes(*image.processes[0].pages.find(104)),
                    kPageSize) == 0);
  CHECK(process.pages.find(101) == read->shared_memory[0].pages.find(101));
  CHECK(read->descriptions[1].pipe->inode == read->descriptions[1].inode);
  CHECK(read->descriptions[1].pipe == read->pipes[0].pipe);
  CHECK(read->descriptions[1].inode != image.descriptions[1].inode);
  CHECK(read->descriptions[2].state == image.descriptions[2].state);
  CHECK(read->descriptions[3].socket->queue == std::vector<std::string>{"one", ""});
  // Streams that lead out are those of the same command, by a number that no other pipe has.
  REQUIRE(read->commands.at(4)->pipes.size() == 1);
  CHECK(read->commands.at(4)->pipes.begin()->first == read->descriptions[0].inode);
  CHECK(read->descriptions[0].inode != 77);
  char data[20] = {};
  CHECK(::pread(must(read->deleted_files[0].contents->file->open(O_RDONLY)).get(), data, sizeof data, 0) == 14);
  CHECK(std::string(data) == "without a name");

  // Nothing of it has to be written again.
  readers.begin_file();
  const WrittenImage again = must(write_image(*read, readers));
  CHECK(readers.end_file().number == 0);
  CHECK(again.bytes.size() == written.bytes.size());
  CHECK(again.files == written.files);
}

TEST_CASE("bytes that no image was written as are refused, whatever they are") {
  const ScratchDir dir;
  const ScratchDir page_dir;
  UniqueFd self_fd_dir = must(sys::open_at(AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY));
  PageStore store;
  PageFiles files(page_dir.fd(), store);
  files.begin_file();
  StoredFiles stored = must(StoredFiles::create(dir.fd()));
  const std::string bytes = must(write_image(sample(stored, store), files)).bytes;
  must(write_page_file(page_dir.fd(), files.end_file()));
  const ImageSurroundings around{files, store, self_fd_dir.get(), stored};
  for (std::size_t length : {std::size_t{0}, std::size_t{7}, bytes.size() / 2, bytes.size() - 1}) {
    CHECK(must_fail(read_image(bytes.substr(0, length), "it", around)).code == Code::kDamaged);
  }
  CHECK(must_fail(read_image(bytes + "x", "it", around)).code == Code::kDamaged);
  Random random(31);
  for (int round = 0; round < 3000; ++round) {
    std::string changed = bytes;
    for (int count = 0; count <= round % 4; ++count) {
      changed[random.below(changed.size())] = static_cast<char>(random.below(256));
    }
    (void)read_image(changed, "it", around);  // an error or an image; nothing else
  }
}

}  // namespace deltabox::test
