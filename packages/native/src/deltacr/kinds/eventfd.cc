#include "deltacr/kinds/eventfd.h"

#include "deltacr/kinds/fdinfo.h"

namespace deltabox {

Result<EventfdState> parse_eventfd(const std::string& fdinfo) {
  EventfdState state;
  state.count = TRY(fdinfo::number_of(fdinfo, "eventfd-count", 16));
  // Shown since Linux 6.5; before, a semaphore can't be told from a counter.
  const std::optional<std::string> semaphore = fdinfo::value_of(fdinfo, "eventfd-semaphore");
  if (!semaphore) {
    return make_error(Code::kUnsupportedKernel,
                      "this kernel (before 6.5) does not tell whether an eventfd is a semaphore");
  }
  state.semaphore = *semaphore != "0";
  return state;
}

}  // namespace deltabox
