#include "deltacr/kinds/fdinfo.h"

#include <sys/sysmacros.h>

#include <charconv>

namespace deltabox::fdinfo {

namespace {
std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\n";
  const std::size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}
}  // namespace

std::vector<std::string_view> lines_that_start(std::string_view text, std::string_view start) {
  std::vector<std::string_view> found;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    if (line.starts_with(start)) found.push_back(line);
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  return found;
}

std::optional<std::string> value_of(std::string_view text, std::string_view label) {
  const std::string start = std::string(label) + ":";
  const std::vector<std::string_view> lines = lines_that_start(text, start);
  if (lines.empty()) return std::nullopt;
  return std::string(trimmed(lines.front().substr(start.size())));
}

std::optional<std::uint64_t> number(std::string_view text, int base) {
  std::uint64_t value = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (failure != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

Result<std::uint64_t> number_of(std::string_view text, std::string_view label, int base) {
  const std::optional<std::string> value = value_of(text, label);
  const std::optional<std::uint64_t> parsed = value ? number(*value, base) : std::nullopt;
  if (!parsed) return make_error(Code::kInternal, "fdinfo has no number \"" + std::string(label) + "\"");
  return *parsed;
}

std::optional<std::pair<std::uint64_t, std::uint64_t>> pair_of(std::string_view text) {
  const std::size_t comma = text.find(',');
  if (!text.starts_with('(') || !text.ends_with(')') || comma == std::string_view::npos) return std::nullopt;
  const auto first = number(trimmed(text.substr(1, comma - 1)), 10);
  const auto second = number(trimmed(text.substr(comma + 1, text.size() - comma - 2)), 10);
  if (!first || !second) return std::nullopt;
  return std::pair(*first, *second);
}

std::string_view field(std::string_view line, std::string_view label) {
  const std::string start = std::string(label) + ":";
  std::size_t at = line.starts_with(start) ? 0 : line.find(" " + start);
  if (at == std::string_view::npos) return {};
  at = line.find(':', at) + 1;
  at = line.find_first_not_of(' ', at);
  if (at == std::string_view::npos) return {};
  return line.substr(at, line.find(' ', at) - at);
}

std::uint64_t device_of(std::uint64_t printed) {
  return makedev(static_cast<unsigned>(printed >> 20), static_cast<unsigned>(printed & 0xfffff));
}

}  // namespace deltabox::fdinfo
