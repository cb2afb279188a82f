#pragma once

#include <napi.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <string>

namespace deltabox::addon {

// A failed system call on its way to JavaScript. C++ code below the Node-API edge throws this and needs no Napi::Env.
class SysError : public std::runtime_error {
 public:
  SysError(int os_errno, const std::string& operation)
      : std::runtime_error(operation + ": " + std::strerror(os_errno)), os_errno_(os_errno), operation_(operation) {}

  [[nodiscard]] Napi::Error ToNapi(Napi::Env env) const {
    Napi::Error error = Napi::Error::New(env, what());
    const char* name = ::strerrorname_np(os_errno_);
    error.Set("code", Napi::String::New(env, name == nullptr ? "EUNKNOWN" : name));
    error.Set("syscall", Napi::String::New(env, operation_));
    return error;
  }

 private:
  int os_errno_;
  std::string operation_;
};

}  // namespace deltabox::addon
