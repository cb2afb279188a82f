#include "doctor/json_line.h"

#include <cstdint>

namespace deltabox::doctor {

namespace {

constexpr const char* kReplacement = "\xef\xbf\xbd";  // U+FFFD

// The length of the well-formed UTF-8 sequence at the start of `text`, 0 when there is none (RFC 3629: no overlong
// forms, no surrogates, nothing above U+10FFFF).
std::size_t sequence_bytes(std::string_view text) {
  const auto byte = [&](std::size_t index) { return static_cast<std::uint8_t>(text[index]); };
  const std::uint8_t first = byte(0);
  if (first < 0x80) return 1;
  const std::size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < length) return 0;
  for (std::size_t index = 1; index < length; ++index) {
    if ((byte(index) & 0xc0) != 0x80) return 0;
  }
  const std::uint8_t second = byte(1);
  const bool overlong = (first == 0xe0 && second < 0xa0) || (first == 0xf0 && second < 0x90);
  const bool outside = (first == 0xed && second >= 0xa0) || (first == 0xf4 && second >= 0x90);
  return overlong || outside ? 0 : length;
}

// A path may hold any byte but NUL; JSON is UTF-8 only.
std::string quote(std::string_view text) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string quoted = "\"";
  while (!text.empty()) {
    const std::size_t length = sequence_bytes(text);
    const char first = text.front();
    if (length == 0) {
      quoted += kReplacement;
    } else if (first == '"' || first == '\\') {
      quoted += {'\\', first};
    } else if (static_cast<std::uint8_t>(first) < 0x20) {
      quoted += "\\u00";
      quoted += {kHex[first >> 4], kHex[first & 15]};
    } else {
      quoted += text.substr(0, length);
    }
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return quoted + "\"";
}

}  // namespace

void JsonLine::add_key(std::string_view key) {
  if (!fields_.empty()) fields_ += ",";
  fields_ += quote(key) + ":";
}

JsonLine& JsonLine::add(std::string_view key, std::string_view text) {
  add_key(key);
  fields_ += quote(text);
  return *this;
}

JsonLine& JsonLine::add(std::string_view key, bool value) {
  add_key(key);
  fields_ += value ? "true" : "false";
  return *this;
}

}  // namespace deltabox::doctor
