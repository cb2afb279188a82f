// Result<T>: a value or an Error. Every fallible function of the engine returns one; exceptions are not used.
//
// An Error names what was tried in words a user can act on: a stable code (the same strings as in
// packages/core/src/errors/codes.ts), the operation, its subject, and the errno of the system call that failed.
// Wrapping adds context and never loses the errno.
#pragma once

#include <cassert>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace deltabox {

// Something that was not captured or not restored. pid is the pid inside the sandbox, 0 when no process is meant.
struct Notice {
  int pid = 0;
  std::string kind;
  std::string reason;
};

enum class Code {
  kInternal,
  kInvalidArgument,
  kNotFound,
  kNotADirectory,
  kPermissionDenied,
  kUnsupported,
  kUnsupportedKernel,
  kBusy,
  kDeadProcess,
  kCheckpointNotFound,
  kCommandNotFound,
  kStaleGeneration,
  kStrict,
  kNoSpace,
  kTooLarge,
  kAlreadyExists,
  kDamaged,
  kColdIncompatible,
  kProtocol,
  kTraceeGone,  // a tracee died under our hands; callers decide what that means, it never leaves the engine
};

std::string_view code_name(Code code);

struct [[nodiscard]] Error {
  Code code = Code::kInternal;
  int os_errno = 0;
  std::string operation;
  std::string subject;
  std::string message;    // optional: replaces the sentence made of operation, subject and errno
  std::string next_step;  // optional: what the user should do
  std::vector<Notice> details;

  // The sentence a user reads.
  std::string describe() const;
};

// An Error from errno, with the code that the errno suggests (EPERM and EACCES: permission; ENOSPC, EDQUOT: space).
Error os_error(std::string_view operation, std::string_view subject = {});
Error os_error_from(int error_number, std::string_view operation, std::string_view subject = {});
Error make_error(Code code, std::string message, std::string next_step = {});

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

  bool ok() const { return state_.index() == 0; }
  T& value() {
    assert(ok());
    return std::get<0>(state_);
  }
  const T& value() const {
    assert(ok());
    return std::get<0>(state_);
  }
  Error& error() {
    assert(!ok());
    return std::get<1>(state_);
  }
  const Error& error() const {
    assert(!ok());
    return std::get<1>(state_);
  }
  T release_value() {
    assert(ok());
    return std::move(std::get<0>(state_));
  }
  Error release_error() {
    assert(!ok());
    return std::move(std::get<1>(state_));
  }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}

  bool ok() const { return !error_.has_value(); }
  Error& error() {
    assert(!ok());
    return *error_;
  }
  const Error& error() const {
    assert(!ok());
    return *error_;
  }
  Error release_error() {
    assert(!ok());
    return std::move(*error_);
  }
  void release_value() {}

 private:
  std::optional<Error> error_;
};

}  // namespace deltabox

// TRY(expression): the value of a Result, or return its Error from this function. A GNU statement expression, as in
// SerenityOS; clang and gcc both have it.
#define TRY(expression)                                        \
  ({                                                           \
    auto try_result_ = (expression);                           \
    if (!try_result_.ok()) return try_result_.release_error(); \
    try_result_.release_value();                               \
  })
