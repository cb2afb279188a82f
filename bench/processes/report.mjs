// The measurements of processes as text. Goals stand beside the figures: they are looked at, and fail nothing.
import { table } from '../table.mjs'
import { renderSlowdown } from './plots.mjs'
import { renderAgent, renderPeers } from './report-beside.mjs'

const ms = ({ p50, p95 }) => `${p50.toFixed(2)} / ${p95.toFixed(2)}`
const whole = ({ p50, p95 }) => `${p50.toFixed(0)} / ${p95.toFixed(0)}`
const times = (ratio) => `${ratio.toFixed(2)}x`
const percent = (part) => `${(part * 100).toFixed(1)} %`
const beside = ({ pauseMs, floorMs }) =>
  floorMs.p50 < NO_FLOOR_MS ? 'nothing to do' : times(pauseMs.p50 / floorMs.p50)

// Without processes there is nothing to freeze or read.
const NO_FLOOR_MS = 0.01

const SETTING_NAMES = {
  nothing: 'no process',
  shell: 'idle bash',
  shellAndPython: 'idle bash and python3',
  nodeServer: 'idle node server and its client',
}
const GOALS = { nodeMs: 2.5, perProcessMs: 0.6, depth: 1.3, usPerPage: 1.5, msPerGib: 0.8 }

const SECTIONS = {
  unchanged: ['unchanged sandbox: checkpoints, ms (p50 / p95)', renderUnchanged],
  nodeServer: [`node server with a client that stays connected, ms (goal of both pauses: ${GOALS.nodeMs})`, renderNode],
  postgres: [`PostgreSQL, ms (goal of the pause: ${GOALS.perProcessMs} a process)`, renderPostgres],
  openFile: ['a file that is open for writing, of which one page changes, ms', renderOpenFile],
  depth: [`checkpoint number N beside number 10 (goal: ${times(GOALS.depth)})`, renderDepth],
  distance: ['rollbacks across so many checkpoints', renderDistance],
  memory: [
    'memory of the engine per checkpoint, bytes (limit: 1.1 x dirty bytes + 512 a page + 8192 a thread)',
    renderMemory,
  ],
  pagePrice: [
    `price of pages (goals: ${GOALS.usPerPage} µs a dirty page, ${GOALS.msPerGib} ms a mapped GiB)`,
    renderPagePrice,
  ],
  redo: ['rollback over 130 pages and one file, ms', renderRedo],
  slowdown: ['a program’s work with a checkpoint every second', renderSlowdownTable],
  agent: ['a scripted session of an agent', renderAgent],
  peers: ['130 pages of a Python session and 10 files, other ways beside, ms', renderPeers],
}

export function renderProcessesReport(results) {
  return Object.entries(SECTIONS)
    .filter(([name]) => results[name] !== undefined)
    .map(([name, [title, render]]) => {
      const { notRun } = results[name]
      return `${title}\n${notRun === undefined ? render(results[name]) : `not run: ${notRun}\n`}`
    })
    .join('\n')
}

function renderUnchanged(settings) {
  return table([
    ['', 'processes', 'threads', 'pause', 'floor of the pause', 'beside', 'call', 'bare request'],
    ...Object.entries(settings).map(([name, at]) => [
      SETTING_NAMES[name],
      `${at.processes.p50}`,
      `${at.threads.p50}`,
      ms(at.pauseMs),
      ms(at.floorMs),
      beside(at),
      ms(at.callMs),
      ms(at.requestMs),
    ]),
  ])
}

const PAUSES_HEADER = ['', 'pause', 'floor of the pause', 'beside', 'call', 'pages']
const pausesRow = (name, at) => [
  name,
  ms(at.pauseMs),
  ms(at.floorMs),
  beside(at),
  ms(at.callMs),
  whole(at.dirtyPages ?? at.writtenPages),
]

// Where the pauses went.
const PARTS = {
  freezeUs: 'freeze',
  describeUs: 'describe',
  scanUs: 'scan',
  copyUs: 'copy',
  switchUs: 'switch',
  reopenUs: 'reopen',
  applyUs: 'apply',
  thawUs: 'thaw',
}
const partsTable = (calls) =>
  table([
    ['parts of the pause, µs', ...Object.values(PARTS)],
    ...Object.entries(calls).map(([name, { partsUs }]) => [
      name,
      ...Object.keys(PARTS).map((part) => partsUs[part].p50.toFixed(0)),
    ]),
  ])

function renderNode({ threadsOfServer, checkpoint, rollback }) {
  return [
    table([
      [`server: ${threadsOfServer} threads; all: ${checkpoint.threads.p50}`, ...PAUSES_HEADER.slice(1)],
      pausesRow('checkpoint', checkpoint),
      pausesRow('rollback', rollback),
    ]),
    partsTable({ checkpoint, rollback }),
  ].join('')
}

function renderPostgres({ backends, checkpoint, rollback }) {
  const processes = checkpoint.processes.p50
  const goalMs = GOALS.perProcessMs * processes
  return [
    table([
      [`${backends} backends, ${processes} processes`, ...PAUSES_HEADER.slice(1), 'goal', 'beside the goal'],
      ...Object.entries({ checkpoint, rollback }).map(([name, at]) => [
        ...pausesRow(name, at),
        goalMs.toFixed(1),
        times(at.pauseMs.p50 / goalMs),
      ]),
    ]),
    partsTable({ checkpoint, rollback }),
  ].join('')
}

function renderDepth({ depth, early, late, floorMs, pauseRatio, callRatio }) {
  return table([
    ['', 'pause, ms', 'call, ms', 'pages'],
    ...[
      ['around number 10', early],
      [`up to number ${depth}`, late],
    ].map(([name, at]) => [name, ms(at.pauseMs), ms(at.callMs), whole(at.dirtyPages)]),
    ['floor of the pause', ms(floorMs), '', ''],
    ['late beside early', times(pauseRatio), times(callRatio), ''],
  ])
}

function renderDistance({ same, growing }) {
  return table([
    ['checkpoints between', 'differing pages', 'pause, ms', 'floor of the pause', 'beside', 'call, ms'],
    ...[
      ['the same pages each time', same],
      ['other pages each time', growing],
    ].flatMap(([name, points]) =>
      points.map((at) => [
        `${name}: ${at.distance}`,
        whole(at.writtenPages),
        ms(at.pauseMs),
        ms(at.floorMs),
        beside(at),
        ms(at.callMs),
      ]),
    ),
  ])
}

function renderMemory({ session, nodeServer }) {
  return table([
    ['', 'dirty pages', 'threads', 'growth of the engine', 'limit', 'beside the limit'],
    ...[
      ['Python session', session],
      ['node server and client', nodeServer],
    ].map(([name, at]) => [
      name,
      ...[at.dirtyPages, at.threads, at.grownBytes, at.limitBytes].map((value) => value.toFixed(0)),
      times(at.besideLimit),
    ]),
  ])
}

function renderPagePrice({ dirty, mapped }) {
  const price = (us) => (us === undefined ? '' : us.toFixed(2))
  return [
    table([
      [...PAUSES_HEADER, 'µs a page', 'floor, µs a page'],
      ...dirty.map((at) => [
        ...pausesRow(`${at.count} written pages`, at),
        price(at.usPerPage),
        price(at.floorUsPerPage),
      ]),
    ]),
    table([
      PAUSES_HEADER,
      ...mapped.points.map((at) => pausesRow(`${at.footprintMb} MB`, at)),
      ['ms a GiB', mapped.msPerGib.toFixed(2), mapped.floorMsPerGib.toFixed(2), '', '', ''],
    ]),
  ].join('\n')
}

function renderOpenFile(points) {
  const mib = ({ p50 }) => `${(p50 / 2 ** 20).toFixed(0)} MiB`
  const row = (name, at) => [
    name,
    ms(at.pauseMs),
    ms(at.floorMs),
    beside(at),
    ms(at.callMs),
    mib(at.copiedOpenFileBytes),
    mib(at.copiedAheadBytes),
  ]
  return table([
    ['', 'pause', 'floor of the pause', 'beside', 'call', 'copied', 'of it before the pause'],
    ...points.flatMap(({ mb, first, checkpoint, rollback }) => [
      [`${mb} MB: the checkpoint that finds it`, ms(first.pauseMs), '', '', ms(first.callMs), '', ''],
      row(`${mb} MB: checkpoint`, checkpoint),
      row(`${mb} MB: rollback`, rollback),
    ]),
  ])
}

function renderRedo({ on, off }) {
  return [
    table([PAUSES_HEADER, pausesRow('redo on (the default)', on), pausesRow('redo off', off)]),
    partsTable({ 'redo on': on, 'redo off': off }),
  ].join('')
}

function renderSlowdownTable(points) {
  const rows = points.map((at) => [
    at.rate < 0 ? 'as fast as it can' : `${at.rate} pages/s`,
    at.pagesPerSecond.toFixed(0),
    at.workPerSecond.toFixed(0),
    at.workPerSecondWithCheckpoints.toFixed(0),
    `${percent(at.lost.p50)} / ${percent(at.lost.p95)}`,
    `${percent(at.stoodStill.p50)} / ${percent(at.stoodStill.p95)}`,
    whole(at.dirtyPages),
    whole(at.callMs),
  ])
  const header = ['', 'pages/s', 'work/s without', 'with', 'lost', 'of which pauses', 'dirty pages', 'call, ms']
  return `${table([header, ...rows])}\n${renderSlowdown(points)}\n`
}
