// What /proc/PID/fdinfo/N says, line by line: "label: value".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace deltabox::fdinfo {

// What follows the label on its first line, without blanks around it.
std::optional<std::string> value_of(std::string_view text, std::string_view label);
// A number that takes up the whole text.
std::optional<std::uint64_t> number(std::string_view text, int base);
// The same of the value of a label; an error names the label.
Result<std::uint64_t> number_of(std::string_view text, std::string_view label, int base);
// "(1, 2)"
std::optional<std::pair<std::uint64_t, std::uint64_t>> pair_of(std::string_view text);
std::vector<std::string_view> lines_that_start(std::string_view text, std::string_view start);
// What follows "label:" up to a blank, in one line of several labels; empty where the label is not there.
std::string_view field(std::string_view line, std::string_view label);

// As the kernel prints a device: major << 20 | minor.
std::uint64_t device_of(std::uint64_t printed);

}  // namespace deltabox::fdinfo
