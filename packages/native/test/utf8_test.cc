#include "protocol/utf8.h"

#include "expect.h"

namespace deltabox::test {

TEST_CASE("text that is UTF-8 stays as it is") {
  for (const char* text : {"", "plain", "gr\xC3\xBC\xC3\x9F", "\xE2\x82\xAC", "\xF0\x9F\x98\x80", "\xF4\x8F\xBF\xBF"}) {
    CHECK(to_utf8(text) == text);
  }
}

TEST_CASE("bytes that are no UTF-8 are spelled out, one by one") {
  CHECK(to_utf8("a\xFFz") == "a\\xffz");
  CHECK(to_utf8("\xC0\xAF") == "\\xc0\\xaf");                    // overlong
  CHECK(to_utf8("\xED\xA0\x80") == "\\xed\\xa0\\x80");           // a surrogate
  CHECK(to_utf8("\xF4\x90\x80\x80") == "\\xf4\\x90\\x80\\x80");  // beyond the last code point
  CHECK(to_utf8("\xE2\x82") == "\\xe2\\x82");                    // cut off
  CHECK(to_utf8("\xC3\xC3\xBC") == "\\xc3\xC3\xBC");
}

}  // namespace deltabox::test
