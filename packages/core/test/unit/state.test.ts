import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { assertSandboxId, isSandboxId, newSandboxId } from '../../src/state/ids.js'
import { removeTree } from '../../src/state/remove-tree.js'
import { readSandboxRecord, sandboxDirPath, writeSandboxRecord } from '../../src/state/sandbox-dir.js'
import { isInside, stateDirPath } from '../../src/state/state-dir.js'

/** 3,000 directories of which some hold a file and some forbid everything. */
const MAKE_DEEP = `
import os, sys
os.chdir(sys.argv[1])
for level in range(3000):
    os.mkdir("directory")
    open("file", "w").close()
    os.chdir("directory")
    if level % 7 == 0: os.chmod(".", 0o300)
`

let dir: string
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'dbx-state-'))
})
afterEach(() => {
  delete process.env['DELTABOX_STATE_DIR']
  rmSync(dir, { recursive: true, force: true })
})

describe('ids', () => {
  test('a new id has the documented form and uses all 60 bits', () => {
    expect(newSandboxId(() => Uint8Array.from([0, 1, 25, 26, 31, 32, 255, 0, 0, 0, 0, 0]))).toBe('sbx_abz27a7aaaaa')
    const ids = new Set(Array.from({ length: 200 }, () => newSandboxId()))
    expect(ids.size).toBe(200)
    for (const id of ids) expect(isSandboxId(id)).toBe(true)
  })

  test.each([
    '',
    'sbx_',
    '../../etc',
    'sbx_aaaaaaaaaaaa/',
    'sbx_aaaaaaaaaaaa\n',
    'sbx_AAAAAAAAAAAA',
    'sbx_aaaaaaaaaaa1',
  ])('refuses %j', (id) => {
    expect(() => assertSandboxId(id)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
    expect(() => sandboxDirPath(id)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
  })
})

describe('state directory', () => {
  const at = (env: Record<string, string>, uid: number) => stateDirPath({ env, uid, home: () => '/home/ada' })

  test('is chosen in the documented order', () => {
    expect(at({ DELTABOX_STATE_DIR: '/mnt/box', XDG_STATE_HOME: '/x' }, 0)).toBe('/mnt/box')
    expect(at({ XDG_STATE_HOME: '/x' }, 0)).toBe('/var/lib/deltabox')
    expect(at({ XDG_STATE_HOME: '/x' }, 1000)).toBe('/x/deltabox')
    expect(at({ XDG_STATE_HOME: 'relative' }, 1000)).toBe('/home/ada/.local/state/deltabox')
    expect(at({ DELTABOX_STATE_DIR: '' }, 1000)).toBe('/home/ada/.local/state/deltabox')
  })

  test('isInside compares whole names', () => {
    expect(isInside('/a/b', '/a')).toBe(true)
    expect(isInside('/a', '/a')).toBe(true)
    expect(isInside('/a/..b', '/a')).toBe(true)
    expect(isInside('/ab', '/a')).toBe(false)
    expect(isInside('/', '/a')).toBe(false)
  })
})

describe('record of a sandbox', () => {
  const record = {
    version: 1 as const,
    id: 'sbx_aaaaaaaaaaaa',
    workspace: '/w',
    workspaceMount: '/workspace',
    createdAtMs: 5,
    metadata: { name: 'x' },
  }

  test('comes back as written; a missing or damaged one is undefined', async () => {
    process.env['DELTABOX_STATE_DIR'] = dir
    const sandboxDir = join(dir, 'sandboxes', record.id)
    mkdirSync(sandboxDir, { recursive: true })
    expect(await readSandboxRecord(record.id)).toBeUndefined()
    await writeSandboxRecord(sandboxDir, record)
    expect(await readSandboxRecord(record.id)).toEqual(record)
    writeFileSync(join(sandboxDir, 'info.json'), '{"version":1')
    expect(await readSandboxRecord(record.id)).toBeUndefined()
    writeFileSync(join(sandboxDir, 'info.json'), '{"version":2}')
    expect(await readSandboxRecord(record.id)).toBeUndefined()
  })
})

describe('removeTree', () => {
  test('removes directories without permissions and never follows a link', async () => {
    const outside = join(dir, 'outside')
    const inside = join(dir, 'inside')
    mkdirSync(join(outside, 'kept'), { recursive: true })
    writeFileSync(join(outside, 'kept', 'file'), 'kept')
    mkdirSync(join(inside, 'work', 'work'), { recursive: true })
    writeFileSync(join(inside, 'work', 'work', 'file'), '')
    symlinkSync(outside, join(inside, 'link'))
    symlinkSync(join(outside, 'kept', 'file'), join(inside, 'file-link'))
    chmodSync(join(inside, 'work', 'work'), 0)
    chmodSync(join(inside, 'work'), 0)
    await removeTree(inside)
    expect(existsSync(inside)).toBe(false)
    expect(readFileSync(join(outside, 'kept', 'file'), 'utf8')).toBe('kept')
    await removeTree(inside)
  })

  test('removes names that are no UTF-8, and trees deeper than descriptors or a path reach', async () => {
    const inside = join(dir, 'inside')
    mkdirSync(inside)
    writeFileSync(Buffer.concat([Buffer.from(`${inside}/`), Buffer.from([0xff, 0xfe, 0x0a])]), '')
    execFileSync('python3', ['-c', MAKE_DEEP, inside])
    await removeTree(inside)
    expect(existsSync(inside)).toBe(false)
  })

  test('refuses to start at a link', async () => {
    mkdirSync(join(dir, 'target'))
    symlinkSync(join(dir, 'target'), join(dir, 'link'))
    await expect(removeTree(join(dir, 'link'))).rejects.toThrow()
    expect(existsSync(join(dir, 'target'))).toBe(true)
  })
})
