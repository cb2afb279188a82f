// Idempotency keys: the answers of the last changing calls that carried one, so that a client which lost its connection
// can ask again without doing it twice. BUSY is not kept: it says that nothing changed and that trying again is the
// thing to do.
#pragma once

#include <deque>
#include <string>

#include "base/result.h"
#include "deltabox.pb.h"

namespace deltabox {

class AnsweredCalls {
 public:
  // What the first call with this key was answered; null when there was none. INVALID_ARGUMENT when that was another
  // call, or the key is of no use for this one.
  Result<const v1::EngineFrame*> find(const v1::ClientFrame& request) const;
  void keep(const v1::ClientFrame& request, const v1::EngineFrame& answer);

 private:
  static constexpr std::size_t kKept = 256;
  struct Call {
    std::string key;
    std::size_t request_hash = 0;
    v1::EngineFrame answer;
  };
  std::deque<Call> calls_;
};

}  // namespace deltabox
