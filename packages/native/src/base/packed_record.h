// A record as it lies on the disk: a header with version, length and checksum, then its bytes. Pure.
#pragma once

#include <string>

#include "base/result.h"

namespace deltabox {

inline constexpr std::uint32_t kRecordVersion = 1;

std::string pack_record(const std::string& payload);
// The payload; what is wrong is named (DAMAGED, or UNSUPPORTED for another version).
Result<std::string> unpack_record(const std::string& file, const std::string& name);

Error damaged_record(const std::string& name, const std::string& what);

}  // namespace deltabox
