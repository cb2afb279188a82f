// The flags of the scenario of processes: `bench/run.mjs` takes them, and `readSizes` makes of them what is measured.
import { execFileSync } from 'node:child_process'

export const sizeFlags = {
  distances: { type: 'string', default: '1,10,100,500' },
  'file-mb': { type: 'string', default: '16,64,256' },
  'memory-checkpoints': { type: 'string', default: '500' },
  'dirty-pages': { type: 'string', default: '100,1000,4000,10000' },
  'mapped-mb': { type: 'string', default: '20,1044' },
  'write-rates': { type: 'string', default: '0,1000,10000,100000,max' },
  'slowdown-seconds': { type: 'string', default: '4' },
  'writer-mb': { type: 'string', default: '512' },
  'peer-mb': { type: 'string', default: '20,200,1000' },
  'agent-sessions': { type: 'string', default: '3' },
  'latency-ms': { type: 'string', default: '1000' },
  criu: { type: 'string' },
  parts: { type: 'string' },
}

const numbers = (text) => text.split(',').map(Number)
const ascending = (text) => numbers(text).sort((a, b) => a - b)

export function readSizes(values) {
  return {
    depth: Number(values.depth),
    fileMb: ascending(values['file-mb']),
    distances: ascending(values.distances),
    memoryCheckpoints: Number(values['memory-checkpoints']),
    dirtyPages: ascending(values['dirty-pages']),
    mappedMb: ascending(values['mapped-mb']),
    rates: numbers(values['write-rates'].replace('max', '-1')),
    seconds: Number(values['slowdown-seconds']),
    writerMb: Number(values['writer-mb']),
    footprintsMb: numbers(values['peer-mb']),
    sessions: Number(values['agent-sessions']),
    latencyMs: Number(values['latency-ms']),
    criu: values.criu ?? find('criu'),
    runc: find('runc'),
    parts: values.parts?.split(','),
  }
}

function find(program) {
  try {
    return execFileSync('/bin/sh', ['-c', `command -v ${program}`], { encoding: 'utf8' }).trim()
  } catch {
    return undefined
  }
}
