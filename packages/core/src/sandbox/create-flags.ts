import { DeltaboxError } from '../errors/deltabox-error.js'
import type { Limits } from '../limits/options.js'
import type { NetworkOption } from '../network/options.js'
import type { CreateSandboxOptions, VolumeOption } from './options.js'

/** One option of {@link Sandbox.create} on a command line. */
export interface CreateFlag {
  /** For example `--volume`. */
  readonly name: string
  /** What stands for its value in a help text; a flag without one is a switch. */
  readonly argument?: string
  readonly description: string
  /** Whether it may be given several times; its value is then a list. */
  readonly repeatable?: boolean
}

/** The options of {@link Sandbox.create} as flags, for programs that make sandboxes. */
export const createFlags: readonly CreateFlag[] = [
  {
    name: '--workspace',
    argument: '<dir>',
    description: 'directory that the sandbox sees as its workspace (default: .)',
  },
  { name: '--workspace-mount', argument: '<path>', description: 'where it appears inside (default: /workspace)' },
  { name: '--rootfs', argument: '<dir>', description: 'host, or the directory of an unpacked image (default: host)' },
  {
    name: '--volume',
    argument: '<[from:]path[:mode]>',
    description: 'another directory inside: copy-on-write (cow) or read-only (ro), empty without `from` (repeatable)',
    repeatable: true,
  },
  {
    name: '--network',
    argument: '<mode>',
    description: 'none (loopback only), host, or none with --allow (default: none)',
  },
  { name: '--allow', argument: '<host:port>', description: 'let this host out (repeatable)', repeatable: true },
  { name: '--memory-bytes', argument: '<n>', description: 'limit of memory' },
  { name: '--cpus', argument: '<n>', description: 'limit of processor time, in processors' },
  { name: '--processes', argument: '<n>', description: 'limit of processes and threads' },
  { name: '--open-files', argument: '<n>', description: 'limit of descriptors of each process' },
  { name: '--disk-bytes', argument: '<n>', description: 'limit of what its layers take on the disk' },
  { name: '--output-bytes', argument: '<n>', description: 'limit of what each command prints over its life' },
  {
    name: '--idle-timeout-ms',
    argument: '<ms>',
    description: 'end the sandbox after this long without use (default: never)',
  },
  {
    name: '--orphan-timeout-ms',
    argument: '<ms>',
    description: 'end it this long after its last client left, whatever runs (default: never)',
  },
  { name: '--keep-last', argument: '<n>', description: 'keep so many checkpoints at most (default: all)' },
  { name: '--keep-bytes', argument: '<n>', description: 'keep so many bytes of checkpoints at most (default: all)' },
  { name: '--hot-bytes', argument: '<n>', description: 'memory for checkpoints; others go to the disk (default: all)' },
  {
    name: '--durability',
    argument: '<what>',
    description: 'files, or processes as well: what survives the end of the engine (default: files)',
  },
  { name: '--drop-named', description: 'these bounds count named checkpoints too' },
  { name: '--name', argument: '<name>', description: 'shown by `deltabox ls`; short for --metadata name=<name>' },
  { name: '--metadata', argument: '<key=value>', description: 'a label of your own (repeatable)', repeatable: true },
]

/** Values of the flags, by their names in camel case; what is missing has the default of {@link Sandbox.create}. */
export interface CreateFlagValues {
  readonly workspace?: string
  readonly workspaceMount?: string
  readonly rootfs?: string
  readonly volume?: readonly string[]
  readonly network?: string
  readonly allow?: readonly string[]
  readonly memoryBytes?: string
  readonly cpus?: string
  readonly processes?: string
  readonly openFiles?: string
  readonly diskBytes?: string
  readonly outputBytes?: string
  readonly idleTimeoutMs?: string
  readonly orphanTimeoutMs?: string
  readonly keepLast?: string
  readonly keepBytes?: string
  readonly hotBytes?: string
  readonly durability?: string
  readonly dropNamed?: boolean
  readonly name?: string
  readonly metadata?: readonly string[]
}

/**
 * The options that flags stand for. What is wrong with a value is mostly for {@link Sandbox.create} to say.
 * @throws INVALID_ARGUMENT
 */
export function createOptionsFromFlags(values: CreateFlagValues): CreateSandboxOptions {
  const { workspace, workspaceMount, rootfs } = values
  return withoutUndefined({
    workspace,
    workspaceMount,
    rootfs,
    volumes: values.volume?.map(toVolume),
    network: toNetwork(values),
    limits: toLimits(values),
    idleTimeoutMs: toNumber(values, 'idleTimeoutMs'),
    orphanTimeoutMs: toNumber(values, 'orphanTimeoutMs'),
    retention: withoutUndefined({
      keepLast: toNumber(values, 'keepLast'),
      maxBytes: toNumber(values, 'keepBytes'),
      hotBytes: toNumber(values, 'hotBytes'),
      keepNamed: values.dropNamed === true ? false : undefined,
    }),
    durability: values.durability as CreateSandboxOptions['durability'],
    metadata: toMetadata(values),
  })
}

type Defined<T> = { readonly [Key in keyof T]?: Exclude<T[Key], undefined> }

function withoutUndefined<T extends object>(values: T): Defined<T> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as Defined<T>
}

type NumberFlag =
  | 'memoryBytes'
  | 'cpus'
  | 'processes'
  | 'openFiles'
  | 'diskBytes'
  | 'outputBytes'
  | 'idleTimeoutMs'
  | 'orphanTimeoutMs'
  | 'keepLast'
  | 'keepBytes'
  | 'hotBytes'

// Whether it is a possible number is for the schema of the option to say.
function toNumber(values: CreateFlagValues, flag: NumberFlag): number | undefined {
  const text = values[flag]
  if (text === undefined) return undefined
  if (/^\d+(\.\d+)?$/.test(text)) return Number(text)
  const name = `--${flag.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`
  throw new DeltaboxError('INVALID_ARGUMENT', {
    message: `${name}: ${JSON.stringify(text)} is no number from 0 on`,
    nextStep: 'write it in digits, without a unit (10240 and not 10k)',
  })
}

/** `path`, `from:path`, each with `:cow` or `:ro` behind it. A host path may hold colons, a path inside can't. */
function toVolume(text: string): VolumeOption {
  const [, place = text, mode] = /^(.*):(cow|ro)$/.exec(text) ?? []
  const colon = place.lastIndexOf(':')
  return {
    path: place.slice(colon + 1),
    ...(colon < 0 ? {} : { from: place.slice(0, colon) }),
    ...(mode === undefined ? {} : { mode: mode as 'cow' | 'ro' }),
  }
}

function toNetwork({ network = 'none', allow = [] }: CreateFlagValues): NetworkOption {
  if (allow.length === 0) return network as NetworkOption
  if (network === 'none') return { allow }
  throw new DeltaboxError('INVALID_ARGUMENT', {
    message: `--allow and --network ${network} contradict each other`,
    nextStep: 'give one of the two',
  })
}

function toLimits(values: CreateFlagValues): Limits {
  return withoutUndefined({
    memoryBytes: toNumber(values, 'memoryBytes'),
    cpus: toNumber(values, 'cpus'),
    processes: toNumber(values, 'processes'),
    openFiles: toNumber(values, 'openFiles'),
    diskBytes: toNumber(values, 'diskBytes'),
    outputBytes: toNumber(values, 'outputBytes'),
  })
}

function toMetadata({ name, metadata = [] }: CreateFlagValues): Record<string, string> {
  const entries = metadata.map((text) => {
    const equals = text.indexOf('=')
    if (equals > 0) return [text.slice(0, equals), text.slice(equals + 1)] as const
    throw new DeltaboxError('INVALID_ARGUMENT', {
      message: `${JSON.stringify(text)} is no label`,
      nextStep: 'give it as --metadata key=value',
    })
  })
  return Object.fromEntries(name === undefined ? entries : [...entries, ['name', name]])
}
