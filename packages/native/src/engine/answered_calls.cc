#include "engine/answered_calls.h"

#include <functional>

namespace deltabox {

namespace {

constexpr std::size_t kMaxKeyBytes = 128;

// Of what is asked for, whoever asks and whatever generation he expects.
std::size_t hash_of(const v1::ClientFrame& request) {
  v1::ClientFrame plain = request;
  plain.clear_request_id();
  plain.clear_expected_generation();
  return std::hash<std::string>()(plain.SerializeAsString());
}

}  // namespace

Result<const v1::EngineFrame*> AnsweredCalls::find(const v1::ClientFrame& request) const {
  const std::string& key = request.idempotency_key();
  if (key.size() > kMaxKeyBytes) {
    return make_error(Code::kInvalidArgument, "the idempotency key is longer than 128 bytes", "Use a shorter one.");
  }
  if (request.has_run() && !request.run().background() && !request.run().has_terminal()) {
    return make_error(Code::kInvalidArgument,
                      "a foreground command can't have an idempotency key: its streams end with its first client",
                      "Run it in the background.");
  }
  for (const Call& call : calls_) {
    if (call.key != key) continue;
    if (call.request_hash == hash_of(request)) return &call.answer;
    return make_error(Code::kInvalidArgument, "another call had this idempotency key already",
                      "Use a new key for each call, and the same one only to repeat it.");
  }
  return static_cast<const v1::EngineFrame*>(nullptr);
}

void AnsweredCalls::keep(const v1::ClientFrame& request, const v1::EngineFrame& answer) {
  if (answer.has_failure() && answer.failure().code() == code_name(Code::kBusy)) return;
  calls_.push_back({request.idempotency_key(), hash_of(request), answer});
  if (calls_.size() > kKept) calls_.pop_front();
}

}  // namespace deltabox
