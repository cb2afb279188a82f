#include "engine/convert.h"

#include <sys/wait.h>

#include "protocol/utf8.h"

namespace deltabox {

namespace {

void fill(v1::Notice& message, const Notice& notice) {
  message.set_pid(notice.pid);
  message.set_kind(notice.kind);
  message.set_reason(to_utf8(notice.reason));
}

void fill(v1::PauseParts& message, const PauseParts& parts) {
  message.set_freeze_us(parts.freeze_us);
  message.set_describe_us(parts.describe_us);
  message.set_scan_us(parts.scan_us);
  message.set_copy_us(parts.copy_us);
  message.set_switch_us(parts.switch_us);
  message.set_reopen_us(parts.reopen_us);
  message.set_apply_us(parts.apply_us);
  message.set_thaw_us(parts.thaw_us);
}

// -1 stands for "ended by a signal", as in the schema.
int exit_code(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : -1; }
int exit_signal(int status) { return WIFSIGNALED(status) ? WTERMSIG(status) : 0; }

}  // namespace

void fill(v1::Failure& message, const Error& error) {
  message.set_code(std::string(code_name(error.code)));
  message.set_message(to_utf8(error.describe()));
  message.set_next_step(to_utf8(error.next_step));
  message.set_os_errno(error.os_errno);
  message.set_operation(error.operation);
  message.set_subject(to_utf8(error.subject));
  for (const Notice& detail : error.details) fill(*message.add_details(), detail);
}

void fill(v1::Checkpoint& message, const Checkpoint& checkpoint) {
  message.set_id(checkpoint.id);
  message.set_parent(checkpoint.parent);
  message.set_name(checkpoint.name);
  for (const auto& [key, value] : checkpoint.metadata) (*message.mutable_metadata())[key] = value;
  message.set_created_at_ms(checkpoint.created_at_ms);
  message.set_pause_us(checkpoint.pause_us);
  fill(*message.mutable_parts(), checkpoint.parts);
  message.set_dirty_pages(checkpoint.dirty_pages);
  message.set_parked_pages(checkpoint.parked_pages);
  message.set_copied_bytes(checkpoint.stored_pages * kPageSize);
  message.set_processes(checkpoint.processes);
  message.set_cold(checkpoint.cold);
  message.set_pinned(checkpoint.pinned);
  message.set_threads(checkpoint.threads);
  message.set_changed_volumes(checkpoint.changed_volumes);
  message.set_changed_files(checkpoint.layer_usage.files);
  message.set_layer_bytes(checkpoint.layer_usage.bytes);
  message.set_is_safety(checkpoint.is_safety);
  message.set_lost_processes(checkpoint.lost_processes);
  message.set_copied_open_file_bytes(checkpoint.copied_open_file_bytes);
  message.set_copied_ahead_bytes(checkpoint.copied_ahead_bytes);
  message.set_total_pages(checkpoint.total_pages);
  message.set_engine_us(checkpoint.engine_us);
  message.set_freeze_attempts(checkpoint.freeze_attempts);
  for (const Notice& warning : checkpoint.warnings) fill(*message.add_warnings(), warning);
}

void fill(v1::RollbackReply& message, const RollbackOutcome& outcome) {
  message.set_checkpoint_id(outcome.checkpoint);
  message.set_safety_checkpoint_id(outcome.safety_checkpoint);
  message.set_pause_us(outcome.pause_us);
  fill(*message.mutable_parts(), outcome.parts);
  message.set_written_pages(outcome.written_pages);
  message.set_copied_open_file_bytes(outcome.copied_open_file_bytes);
  message.set_copied_ahead_bytes(outcome.copied_ahead_bytes);
  message.set_captured_pages(outcome.captured_pages);
  message.set_switched_volumes(outcome.switched_volumes);
  message.set_ended_processes(outcome.ended_processes.size());
  message.set_ended_threads(outcome.ended_threads);
  message.set_restored_processes(outcome.restored_processes.size());
  message.set_restored_threads(outcome.restored_threads);
  message.set_processes(outcome.processes);
  message.set_engine_us(outcome.engine_us);
  for (const Notice& notice : outcome.not_restored) fill(*message.add_not_restored(), notice);
}

void fill(v1::Command& message, const Command& command) {
  message.set_command_id(command.id);
  message.set_pid(command.pid.value);
  message.set_background(command.background);
  message.set_label(command.label);
  for (const std::string& argument : command.arguments) message.add_argv(argument);
  message.set_running(!command.status.has_value());
  if (command.status) {
    message.set_exit_code(exit_code(*command.status));
    message.set_signal(exit_signal(*command.status));
  }
  message.set_rolled_back(command.rolled_back);
  message.set_terminal(command.terminal);
  message.set_user(command.user);
  message.set_limit(command.limit);
}

void fill(v1::CommandExited& message, const Command& command) {
  message.set_command_id(command.id);
  message.set_exit_code(exit_code(command.status.value_or(0)));
  message.set_signal(exit_signal(command.status.value_or(0)));
  message.set_rolled_back(command.rolled_back);
  message.set_limit(command.limit);
}

void fill(v1::CommandOutput& message, const Command& command, const SpoolChunk& chunk) {
  message.set_command_id(command.id);
  message.set_stream(chunk.stream);
  message.set_data(chunk.data);
  message.set_dropped_bytes(chunk.dropped_before);
  message.set_end_offset(chunk.end_offset);
}

}  // namespace deltabox
