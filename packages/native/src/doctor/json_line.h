// One flat JSON object, written field by field.
#pragma once

#include <string>
#include <string_view>

namespace deltabox::doctor {

class JsonLine {
 public:
  JsonLine& add(std::string_view key, std::string_view text);
  JsonLine& add(std::string_view key, bool value);
  // A literal would prefer bool to string_view.
  JsonLine& add(std::string_view key, const char* text) { return add(key, std::string_view(text)); }
  // The object with its newline.
  std::string finish() const { return "{" + fields_ + "}\n"; }

 private:
  void add_key(std::string_view key);
  std::string fields_;
};

}  // namespace deltabox::doctor
