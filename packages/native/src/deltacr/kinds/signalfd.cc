#include "deltacr/kinds/signalfd.h"

#include "deltacr/kinds/fdinfo.h"

namespace deltabox {

Result<SignalfdState> parse_signalfd(const std::string& fdinfo) {
  return SignalfdState{TRY(fdinfo::number_of(fdinfo, "sigmask", 16))};
}

}  // namespace deltabox
