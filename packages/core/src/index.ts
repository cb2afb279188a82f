export { Sandbox } from './sandbox/sandbox.js'
export type {
  CheckpointOptions,
  CreateSandboxOptions,
  Retention,
  RollbackOptions,
  SandboxInfo,
  SandboxListEntry,
  VolumeOption,
  SandboxMetrics,
} from './sandbox/options.js'
export { getHotBudget, setHotBudget } from './state/hot-budget.js'
export type { CheckpointTarget } from './sandbox/targets.js'
export type { BeforeThaw, ForkOptions, ForkResult } from './sandbox/fork.js'
export { createFlags, createOptionsFromFlags, type CreateFlag, type CreateFlagValues } from './sandbox/create-flags.js'
export { Commands } from './commands/commands.js'
export { CommandHandle } from './commands/command-handle.js'
export type {
  BackgroundRunOptions,
  ByteSink,
  CommandInfo,
  CommandResult,
  CommonRunOptions,
  ForegroundRunOptions,
  StartedCommand,
  StdinSource,
} from './commands/options.js'
export { Pty } from './pty/pty.js'
export { PtyHandle } from './pty/pty-handle.js'
export type { PtyConnectOptions, PtyOptions, PtyResult, PtySize } from './pty/options.js'
export type { CommandLimit, Limits } from './limits/options.js'
export type { NetworkOption } from './network/options.js'
export { Ports, type ForwardOptions, type PortForward } from './ports/ports.js'
export { Files } from './files/files.js'
export type {
  ChangeOptions,
  FileContents,
  ListOptions,
  LookOptions,
  MakeDirOptions,
  ReadFileOptions,
  WatchOptions,
  WriteFileOptions,
} from './files/options.js'
export type { EntryInfo, EntryType } from './files/entry-info.js'
export type { InsidePath } from './files/paths.js'
export { WatchHandle, type WatchEvent } from './files/watch.js'
export type { Checkpoint, CheckpointResult, PauseParts, RollbackResult } from './checkpoints/checkpoint.js'
export { buildCheckpointTree, type CheckpointList, type CheckpointNode } from './checkpoints/tree.js'
export { explainPause } from './checkpoints/explain.js'
export { renderCheckpointTree } from './checkpoints/render.js'
export { ERROR_CODES, isErrorCode, type ErrorCode } from './errors/codes.js'
export {
  DeltaboxError,
  isDeltaboxError,
  type DeltaboxErrorInit,
  type EngineFailureData,
  type ErrorData,
  type InterruptedCommandData,
  type Notice,
} from './errors/deltabox-error.js'
