// Writes values down and reads them back: one description per type (`archive(a, value)` calls `a` with its parts)
// serves both ways. Numbers lie as they lie in memory: an image is read by the kind of machine that wrote it
// (machine.h).
//
// A reader believes nothing: every length is checked against what is left, and what is wrong makes it fail for good.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

#include "base/ids.h"

namespace deltabox::images {

// Numbers, which are their bytes.
template <typename T>
inline constexpr bool kIsPlain = (std::is_arithmetic_v<T> && !std::is_same_v<T, bool>) || std::is_same_v<T, std::byte>;

class Writer {
 public:
  static constexpr bool kReads = false;

  void raw(const void* data, std::size_t size_bytes) { out_.append(static_cast<const char*>(data), size_bytes); }
  std::uint64_t length(std::uint64_t value) {
    raw(&value, sizeof value);
    return value;
  }
  void fail() {}
  bool failed() const { return false; }
  std::string take() { return std::move(out_); }

 private:
  std::string out_;
};

class Reader {
 public:
  static constexpr bool kReads = true;

  explicit Reader(std::string_view in) : in_(in) {}
  void raw(void* data, std::size_t size_bytes) {
    if (failed_ || in_.size() < size_bytes) {
      failed_ = true;
      std::memset(data, 0, size_bytes);
      return;
    }
    std::memcpy(data, in_.data(), size_bytes);
    in_.remove_prefix(size_bytes);
  }
  // Of a list: each entry takes at least one byte.
  std::uint64_t length(std::uint64_t) {
    std::uint64_t value = 0;
    raw(&value, sizeof value);
    if (value > in_.size()) failed_ = true;
    return failed_ ? 0 : value;
  }
  void fail() { failed_ = true; }
  bool failed() const { return failed_; }
  bool at_end() const { return in_.empty(); }

 private:
  std::string_view in_;
  bool failed_ = false;
};

// A byte of its own: not every byte is a bool.
template <typename A>
void archive(A& a, bool& value) {
  std::uint8_t byte = value ? 1 : 0;
  a.raw(&byte, sizeof byte);
  if (byte > 1) a.fail();
  value = byte == 1;
}

template <typename A, typename T>
requires kIsPlain<T>
void archive(A& a, T& value) { a.raw(&value, sizeof value); }

// An enumeration whose values go from 0 to `last`.
template <typename A, typename T>
void archive_choice(A& a, T& value, T last) {
  auto number = static_cast<std::uint32_t>(value);
  a.raw(&number, sizeof number);
  if (number > static_cast<std::uint32_t>(last)) {
    a.fail();
    number = 0;
  }
  value = static_cast<T>(number);
}

// Structures without padding that matters and without pointers.
template <typename A, typename T>
void archive_bytes(A& a, T& value) {
  static_assert(std::is_trivially_copyable_v<T>);
  a.raw(&value, sizeof value);
}

template <typename A>
void archive(A& a, std::string& text) {
  const std::uint64_t size = a.length(text.size());
  if constexpr (A::kReads) text.resize(size);
  a.raw(text.data(), size);
}

template <typename A, typename T>
void archive(A& a, std::vector<T>& list) {
  const std::uint64_t size = a.length(list.size());
  if constexpr (A::kReads) list.resize(size);
  for (T& entry : list) archive(a, entry);
}

template <typename A, typename T, std::size_t kSize>
void archive(A& a, std::array<T, kSize>& list) {
  for (T& entry : list) archive(a, entry);
}

template <typename A, typename K, typename V>
void archive(A& a, std::map<K, V>& entries) {
  const std::uint64_t size = a.length(entries.size());
  if constexpr (A::kReads) {
    for (std::uint64_t index = 0; index < size; ++index) {
      K key{};
      archive(a, key);
      archive(a, entries[key]);
    }
  } else {
    for (auto& [key, value] : entries) {
      K copy = key;
      archive(a, copy);
      archive(a, value);
    }
  }
}

// May be null.
template <typename A, typename T>
void archive(A& a, std::shared_ptr<const T>& pointer) {
  bool present = pointer != nullptr;
  archive(a, present);
  if (!present) return;
  if constexpr (A::kReads) {
    auto made = std::make_shared<T>();
    archive(a, *made);
    pointer = std::move(made);
  } else {
    archive(a, const_cast<T&>(*pointer));
  }
}

template <typename A, typename... T>
void archive(A& a, std::variant<T...>& value) {
  std::uint64_t index = value.index();
  archive(a, index);
  if constexpr (A::kReads) {
    std::uint64_t number = 0;
    const bool known = ((number++ == index ? (value.template emplace<T>(), true) : false) || ...);
    if (!known) return a.fail();
  }
  std::visit([&](auto& one) { archive(a, one); }, value);
}

template <typename A>
void archive(A&, std::monostate&) {}
template <typename A>
void archive(A& a, HostTid& tid) {
  archive(a, tid.value);
}
template <typename A>
void archive(A& a, InsidePid& pid) {
  archive(a, pid.value);
}
template <typename A>
void archive(A& a, RemoteAddress& address) {
  archive(a, address.value);
}
template <typename A>
void archive(A& a, AddressRange& range) {
  archive(a, range.start);
  archive(a, range.end);
}

// Several values in a row.
template <typename A, typename... T>
void parts(A& a, T&... values) {
  (archive(a, values), ...);
}

}  // namespace deltabox::images
