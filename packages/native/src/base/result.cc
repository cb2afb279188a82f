#include "base/result.h"

#include <cerrno>
#include <cstring>

namespace deltabox {

std::string_view code_name(Code code) {
  switch (code) {
    case Code::kInternal:
      return "INTERNAL";
    case Code::kInvalidArgument:
      return "INVALID_ARGUMENT";
    case Code::kNotFound:
      return "NOT_FOUND";
    case Code::kNotADirectory:
      return "NOT_A_DIRECTORY";
    case Code::kPermissionDenied:
      return "PERMISSION_DENIED";
    case Code::kUnsupported:
      return "UNSUPPORTED";
    case Code::kUnsupportedKernel:
      return "UNSUPPORTED_KERNEL";
    case Code::kBusy:
      return "BUSY";
    case Code::kDeadProcess:
      return "DEAD_PROCESS";
    case Code::kCheckpointNotFound:
      return "CHECKPOINT_NOT_FOUND";
    case Code::kCommandNotFound:
      return "COMMAND_NOT_FOUND";
    case Code::kStaleGeneration:
      return "STALE_GENERATION";
    case Code::kStrict:
      return "STRICT";
    case Code::kNoSpace:
      return "NO_SPACE";
    case Code::kTooLarge:
      return "TOO_LARGE";
    case Code::kAlreadyExists:
      return "ALREADY_EXISTS";
    case Code::kColdIncompatible:
      return "COLD_INCOMPATIBLE";
    case Code::kDamaged:
      return "DAMAGED";
    case Code::kProtocol:
      return "PROTOCOL";
    case Code::kTraceeGone:
      return "DEAD_PROCESS";
  }
  return "INTERNAL";
}

std::string Error::describe() const {
  if (!message.empty()) return message;
  std::string text = operation;
  if (!subject.empty()) text += " (" + subject + ")";
  text += os_errno != 0 ? std::string(": ") + strerrordesc_np(os_errno) : std::string(" failed");
  return text;
}

Error os_error(std::string_view operation, std::string_view subject) {
  return os_error_from(errno, operation, subject);
}

Error os_error_from(int error_number, std::string_view operation, std::string_view subject) {
  Error error;
  error.os_errno = error_number;
  error.operation = operation;
  error.subject = subject;
  switch (error_number) {
    case EPERM:
    case EACCES:
    case EROFS:
      error.code = Code::kPermissionDenied;
      break;
    case EISDIR:
    case ENAMETOOLONG:
    case ELOOP:
      error.code = Code::kInvalidArgument;
      break;
    case ENOENT:
      error.code = Code::kNotFound;
      break;
    case ENOTDIR:
      error.code = Code::kNotADirectory;
      break;
    case ENOSPC:
    case EDQUOT:
      error.code = Code::kNoSpace;
      break;
    case EMFILE:
    case ENFILE:
      // Processes inside cost descriptors, and commands, watches and clients do.
      error.code = Code::kNoSpace;
      error.next_step =
          "End processes inside, or raise the limit of open files (`ulimit -n`) where sandboxes are made.";
      break;
    case ESRCH:
      error.code = Code::kTraceeGone;
      break;
    case ENOSYS:
      error.code = Code::kUnsupportedKernel;
      break;
    default:
      error.code = Code::kInternal;
      break;
  }
  return error;
}

Error make_error(Code code, std::string message, std::string next_step) {
  Error error;
  error.code = code;
  error.message = std::move(message);
  error.next_step = std::move(next_step);
  return error;
}

}  // namespace deltabox
