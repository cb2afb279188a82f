#include "protocol/utf8.h"

#include <cstddef>
#include <cstdint>

namespace deltabox {

namespace {

std::uint8_t byte_at(std::string_view text, std::size_t index) { return static_cast<std::uint8_t>(text[index]); }

bool is_continuation(std::string_view text, std::size_t index) {
  return index < text.size() && (byte_at(text, index) & 0xC0) == 0x80;
}

// Bytes of the sequence that begins here; 0 when it is not valid (RFC 3629: no overlong forms, no surrogates).
std::size_t sequence_bytes(std::string_view text, std::size_t index) {
  const std::uint8_t first = byte_at(text, index);
  if (first < 0x80) return 1;
  if (first < 0xC2 || first > 0xF4 || !is_continuation(text, index + 1)) return 0;
  if (first < 0xE0) return 2;
  const std::uint8_t second = byte_at(text, index + 1);
  if (first == 0xE0 && second < 0xA0) return 0;
  if (first == 0xED && second > 0x9F) return 0;
  if (first == 0xF0 && second < 0x90) return 0;
  if (first == 0xF4 && second > 0x8F) return 0;
  if (!is_continuation(text, index + 2)) return 0;
  if (first < 0xF0) return 3;
  return is_continuation(text, index + 3) ? 4 : 0;
}

}  // namespace

std::string to_utf8(std::string_view text) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  out.reserve(text.size());
  for (std::size_t index = 0; index < text.size();) {
    const std::size_t count = sequence_bytes(text, index);
    if (count > 0) {
      out.append(text.substr(index, count));
      index += count;
      continue;
    }
    const std::uint8_t byte = byte_at(text, index++);
    out += "\\x";
    out += kDigits[byte >> 4];
    out += kDigits[byte & 15];
  }
  return out;
}

}  // namespace deltabox
