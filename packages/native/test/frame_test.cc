#include "protocol/frame.h"

#include <sys/eventfd.h>

#include "expect.h"
#include "random.h"
#include "sys/files.h"

namespace deltabox::test {

namespace {

std::string frame(const std::string& payload, std::size_t fd_count = 0) {
  return encode_header(payload.size(), fd_count) + payload;
}

std::vector<UniqueFd> some_fds(std::size_t count) {
  std::vector<UniqueFd> fds;
  for (std::size_t index = 0; index < count; ++index) fds.emplace_back(::eventfd(0, EFD_CLOEXEC));
  return fds;
}

Code code_after(const std::string& bytes) {
  FrameReader reader;
  must(reader.feed(bytes.data(), bytes.size(), {}));
  return must_fail(reader.next()).code;
}

}  // namespace

TEST_CASE("a header says magic, version, descriptors and length in little endian") {
  const std::string header = encode_header(0x01020304, 5);
  REQUIRE(header.size() == kHeaderBytes);
  CHECK(header == std::string("DBX1\x01\x00\x05\x00\x04\x03\x02\x01", 12));
}

TEST_CASE("frames come out whole wherever the stream is split") {
  const std::string stream = frame("first") + frame("") + frame(std::string(300, 'x'));
  for (std::size_t split = 0; split <= stream.size(); ++split) {
    FrameReader reader;
    std::vector<std::string> payloads;
    for (const std::string& part : {stream.substr(0, split), stream.substr(split)}) {
      must(reader.feed(part.data(), part.size(), {}));
      while (auto next = must(reader.next())) payloads.push_back(next->payload);
    }
    REQUIRE(payloads == std::vector<std::string>{"first", "", std::string(300, 'x')});
  }
}

TEST_CASE("frames come out whole when the stream arrives byte by byte") {
  const std::string stream = frame("one") + frame("two");
  FrameReader reader;
  int frames = 0;
  for (const char byte : stream) {
    must(reader.feed(&byte, 1, {}));
    while (must(reader.next())) ++frames;
  }
  CHECK(frames == 2);
}

TEST_CASE("an incomplete frame is no frame") {
  const std::string bytes = frame("payload");
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    FrameReader reader;
    must(reader.feed(bytes.data(), size, {}));
    REQUIRE_FALSE(must(reader.next()).has_value());
  }
}

TEST_CASE("descriptors go with their frames, in order") {
  FrameReader reader;
  const std::string stream = frame("a", 2) + frame("b") + frame("c", 1);
  std::vector<UniqueFd> fds = some_fds(3);
  const int numbers[] = {fds[0].get(), fds[1].get(), fds[2].get()};
  must(reader.feed(stream.data(), stream.size(), std::move(fds)));
  const Frame a = *must(reader.next());
  REQUIRE(a.fds.size() == 2);
  CHECK(a.fds[0].get() == numbers[0]);
  CHECK(a.fds[1].get() == numbers[1]);
  CHECK(must(reader.next())->fds.empty());
  const Frame c = *must(reader.next());
  REQUIRE(c.fds.size() == 1);
  CHECK(c.fds[0].get() == numbers[2]);
}

TEST_CASE("what is not a frame is refused") {
  std::string bytes = frame("payload");
  SUBCASE("wrong magic") { bytes[0] = 'X'; }
  SUBCASE("older version") { bytes[4] = 0; }
  SUBCASE("newer version") { bytes[4] = 2; }
  SUBCASE("payload longer than the bound") { bytes = encode_header(kMaxPayloadBytes + 1, 0); }
  SUBCASE("more descriptors than the bound") { bytes = frame("payload", kMaxFrameFds + 1); }
  SUBCASE("descriptors that did not come") { bytes = frame("payload", 1); }
  CHECK(code_after(bytes) == Code::kProtocol);
}

TEST_CASE("the largest frame is taken") {
  const std::string bytes = frame(std::string(kMaxPayloadBytes, 'x'));
  FrameReader reader;
  must(reader.feed(bytes.data(), bytes.size(), {}));
  CHECK(must(reader.next())->payload.size() == kMaxPayloadBytes);
}

TEST_CASE("a flood of bytes or descriptors is refused before it is kept") {
  FrameReader reader;
  const std::string flood(kMaxPayloadBytes + (2u << 20), 'x');
  CHECK(must_fail(reader.feed(flood.data(), flood.size(), {})).code == Code::kProtocol);
  FrameReader second;
  CHECK(must_fail(second.feed("D", 1, some_fds(4 * kMaxFrameFds + 1))).code == Code::kProtocol);
}

TEST_CASE("random bytes never produce a frame that was not sent") {
  Random random(4);
  for (int round = 0; round < 20'000; ++round) {
    std::string bytes = frame(std::string(random.below(20), 'p'), random.below(3));
    const bool damaged = !random.one_in(4);
    if (damaged) {
      for (std::uint64_t flips = 1 + random.below(4); flips > 0; --flips) {
        bytes[random.below(bytes.size())] = static_cast<char>(random.below(256));
      }
    }
    FrameReader reader;
    std::size_t offset = 0;
    bool refused = false;
    while (offset < bytes.size() && !refused) {
      const std::size_t part = 1 + random.below(bytes.size() - offset);
      refused = !reader.feed(bytes.data() + offset, part, {}).ok();
      offset += part;
      for (;;) {
        const Result<std::optional<Frame>> next = reader.next();
        if (!next.ok()) refused = true;
        if (!next.ok() || !next.value()) break;
        REQUIRE(next.value()->payload.size() <= bytes.size() - kHeaderBytes);
        REQUIRE(next.value()->fds.empty());
      }
    }
  }
}

}  // namespace deltabox::test
