#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>

#include "deltacr/kinds/socket.h"
#include "expect.h"
#include "images.h"
#include "reconcile/plan.h"

namespace deltabox::test {

namespace {

SocketState end_of_pair(std::uint64_t cookie, std::uint64_t peer) {
  SocketState state;
  state.cookie = cookie;
  state.family = AF_UNIX;
  state.type = SOCK_STREAM;
  state.peer_name = std::string("\1\0", 2);
  state.peer_cookie = peer;
  state.is_complete = true;
  return state;
}

Description description_of(const SocketState& state) {
  Description description;
  description.kind = DescriptionKind::kSocket;
  description.type = "socket";
  description.inode = 100 + state.cookie;
  description.socket = std::make_shared<const SocketState>(state);
  return description;
}

// One process with the sockets in slots from 3 on.
TreeImage image_of(const std::vector<SocketState>& sockets) {
  TreeImage image;
  image.processes.push_back(process(1, {1}));
  image.processes[0].mappings = std::make_shared<MappingList>();
  for (const SocketState& state : sockets) {
    const auto index = static_cast<std::uint32_t>(image.descriptions.size());
    image.descriptions.push_back(description_of(state));
    image.processes[0].descriptors.push_back({3 + static_cast<int>(index), false, index});
  }
  return image;
}

std::vector<std::uint32_t> made(const TreeImage& live, const TreeImage& target) {
  std::vector<std::uint32_t> indices = plan_descriptors(live, target, {}).make;
  std::sort(indices.begin(), indices.end());
  return indices;
}
using Indices = std::vector<std::uint32_t>;

}  // namespace

TEST_CASE("both ends of a connection are made anew when one was closed or shut down") {
  const TreeImage target = image_of({end_of_pair(1, 2), end_of_pair(2, 1), end_of_pair(3, 4), end_of_pair(4, 3)});
  CHECK(made(target, target).empty());
  CHECK(made(image_of({end_of_pair(1, 2), end_of_pair(2, 1), end_of_pair(3, 0)}), target) == Indices{2, 3});
  SocketState silent = end_of_pair(1, 2);
  silent.shutdown = 2;
  CHECK(made(image_of({silent, end_of_pair(2, 1), end_of_pair(3, 4), end_of_pair(4, 3)}), target) == Indices{0, 1});
}

TEST_CASE("what waits is put back through the other end, and anew where that can't send") {
  SocketState near = end_of_pair(1, 2);
  SocketState far = end_of_pair(2, 1);
  far.queue = {"waits"};
  const TreeImage target = image_of({near, far});
  CHECK(made(image_of({near, end_of_pair(2, 1)}), target).empty());
  near.shutdown = 2;
  far.shutdown = 1;
  SocketState read = far;
  read.queue.clear();
  CHECK(made(image_of({near, read}), image_of({near, far})) == Indices{0, 1});
  SocketState left = end_of_pair(5, 0);
  left.peer_is_gone = true;
  SocketState left_full = left;
  left_full.queue = {"last words"};
  CHECK(made(image_of({left}), image_of({left_full})) == Indices{0});
}

TEST_CASE("a socket that is not captured in full is never made up") {
  SocketState partial = end_of_pair(1, 2);
  partial.is_complete = false;
  const TreeImage target = image_of({partial});
  CHECK(made(image_of({}), target).empty());
  CHECK(plan_descriptors(image_of({}), target, {}).unrestorable.size() == 1);
  SocketState queued = partial;
  queued.queue = {"more"};
  CHECK(!difference_of(queued, partial).queue);
  CHECK(difference_of(partial, end_of_pair(1, 2)).queue);
}

TEST_CASE("sockets without a connection are made anew by their names; one with a path is not") {
  SocketState listener;
  listener.cookie = 7;
  listener.family = AF_UNIX;
  listener.type = SOCK_STREAM;
  listener.listens = true;
  listener.is_complete = true;
  listener.name = std::string("\1\0\0abstract", 11);
  CHECK(can_be_made(listener));
  listener.name = std::string("\1\0/run/path", 11);
  CHECK(!can_be_made(listener));
  SocketState udp;
  udp.family = AF_INET;
  udp.type = SOCK_DGRAM;
  udp.protocol = IPPROTO_UDP;
  udp.is_complete = true;
  CHECK(can_be_made(udp));
  udp.queue = {"a datagram"};
  CHECK(!can_be_made(udp));
}

TEST_CASE("a datagram socket with a path is made anew with what waits in it, where anybody can send that again") {
  SocketState bound;
  bound.cookie = 7;
  bound.family = AF_UNIX;
  bound.type = SOCK_DGRAM;
  bound.is_complete = true;
  bound.name = std::string("\1\0/run/log", 10);
  CHECK(!can_be_made(bound));
  bound.node.path = "/run/log";
  bound.queue = {"a line"};
  CHECK(can_be_made(bound));
  bound.has_named_senders = true;
  CHECK(!can_be_made(bound));
  bound.has_named_senders = false;
  SocketState client = bound;
  client.cookie = 8;
  client.name.clear();
  client.node = {};
  client.queue.clear();
  client.peer_name = bound.name;
  CHECK(!can_be_made(client));
  client.target_cookie = 7;
  CHECK(can_be_made(client));
  // It is connected again when its target is another one; it need not be another itself.
  CHECK(made(image_of({client}), image_of({client, bound})) == Indices{1});
}

}  // namespace deltabox::test
