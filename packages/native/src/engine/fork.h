// How a sandbox begins that another one lent a checkpoint to. It uses the lender's sealed layers where they lie, has
// the lender's page files as links, and everything else of its own: nothing is copied, whatever the size of the state.
#pragma once

#include "base/result.h"
#include "deltabox.pb.h"
#include "sandbox/id_map.h"

namespace deltabox {

// The creation request of a fork: the lender's, with what is the fork's own.
Result<v1::CreateRequest> request_of_fork(const v1::CreateRequest& fork);

// Makes the store of the fork. As the user who called, while the engine still has the host's tree.
Result<void> make_forked_store(const v1::CreateRequest& request, const v1::ForkOrigin& origin, const IdMap& id_map);

// What a sandbox was created with, kept in its directory for other engines.
Result<void> keep_request(const v1::CreateRequest& request);
Result<v1::CreateRequest> kept_request(const std::string& state_dir, const std::string& id);

}  // namespace deltabox
