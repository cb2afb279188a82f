#include "base/packed_record.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <cstring>

namespace deltabox {

namespace {

constexpr char kMagic[4] = {'D', 'B', 'X', 'R'};

struct Header {
  char magic[4];
  std::uint32_t version;
  std::uint64_t payload_bytes;
  std::uint64_t checksum;  // XXH3, 64 bits, of the payload
};
static_assert(sizeof(Header) == 24);

}  // namespace

Error damaged_record(const std::string& name, const std::string& what) {
  return make_error(Code::kDamaged, name + " is damaged: " + what,
                    "Use another checkpoint; what is damaged is never used.");
}

std::string pack_record(const std::string& payload) {
  Header header{};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.version = kRecordVersion;
  header.payload_bytes = payload.size();
  header.checksum = XXH3_64bits(payload.data(), payload.size());
  return std::string(reinterpret_cast<const char*>(&header), sizeof header) + payload;
}

Result<std::string> unpack_record(const std::string& file, const std::string& name) {
  Header header{};
  if (file.size() < sizeof header) return damaged_record(name, "it is too short");
  std::memcpy(&header, file.data(), sizeof header);
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0) return damaged_record(name, "it is no record of DeltaBox");
  if (header.version != kRecordVersion) {
    return make_error(
        Code::kUnsupported,
        name + " has version " + std::to_string(header.version) + ", this is version " + std::to_string(kRecordVersion),
        "Use the version of DeltaBox that wrote it.");
  }
  const std::string payload = file.substr(sizeof header);
  if (payload.size() != header.payload_bytes) return damaged_record(name, "its length is wrong");
  if (XXH3_64bits(payload.data(), payload.size()) != header.checksum)
    return damaged_record(name, "its checksum is wrong");
  return payload;
}

}  // namespace deltabox
