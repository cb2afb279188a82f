// Text for the schema's strings. Names inside a sandbox are bytes; a string that is no UTF-8 makes the whole frame
// unreadable for its receiver.
#pragma once

#include <string>
#include <string_view>

namespace deltabox {

// The same text when it is valid UTF-8; else each byte that is not becomes \xNN.
std::string to_utf8(std::string_view text);

}  // namespace deltabox
