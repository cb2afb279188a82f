// A checksum over all that a sealed layer holds: names, types, modes, owners, modification times, extended attributes,
// contents, targets. It lies beside the layer (layers/<id>/digest) and finds a layer that was altered behind our back.
#pragma once

#include <string>

#include "base/result.h"
#include "deltafs/layer.h"

namespace deltabox {

// On any thread.
Result<std::uint64_t> digest_of(int layer_dir_fd);
Result<void> write_digest(const Layer& layer);
bool has_digest(const Layer& layer);
// Empty when the layer is what it was, or was never digested (`required`: then it is not); else what is wrong.
Result<std::string> check_digest(const Layer& layer, bool required);

}  // namespace deltabox
