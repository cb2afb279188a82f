// From the engine's own types to messages of the wire.
#pragma once

#include "base/result.h"
#include "checkpoint/transaction.h"
#include "deltabox.pb.h"
#include "engine/commands.h"

namespace deltabox {

void fill(v1::Failure& message, const Error& error);
void fill(v1::Checkpoint& message, const Checkpoint& checkpoint);
void fill(v1::RollbackReply& message, const RollbackOutcome& outcome);
void fill(v1::Command& message, const Command& command);
void fill(v1::CommandExited& message, const Command& command);
void fill(v1::CommandOutput& message, const Command& command, const SpoolChunk& chunk);

}  // namespace deltabox
