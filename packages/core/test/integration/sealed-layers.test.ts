// Nothing inside has a way to write what a checkpoint sealed: each attempt acts after a checkpoint, and a rollback to it
// must not find a trace.
import { execFileSync } from 'node:child_process'
import { readdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { Sandbox } from '../../src/index.js'
import { LayerHashes } from '../support/layer-hashes.js'
import { until, useTestState } from '../support/state.js'

const state = useTestState()

/** Each: what is done before the checkpoint by a session that lives on, and what it then tries. */
const attempts: Record<string, { before: string; attack: string }> = {
  'through a descriptor of a removed directory': {
    before: 'mkdir /workspace/gone; exec 9</workspace/gone; rmdir /workspace/gone',
    attack: 'cd /proc/self/fd/9/.. && echo x > trace; echo x > /proc/self/fd/9/../trace',
  },
  'through a removed working directory': {
    before: 'mkdir /workspace/gone; cd /workspace/gone; rmdir /workspace/gone',
    attack: 'echo x > ../trace',
  },
  'through a removed name of a file that has another': {
    before: 'echo kept > /workspace/one; ln /workspace/one /workspace/two; exec 9</workspace/one; rm /workspace/one',
    attack: 'echo trace >> /proc/self/fd/9',
  },
  'through the program that runs': {
    before: 'true',
    attack: 'chmod 0700 /proc/$$/exe',
  },
  'through an open FIFO': {
    before: 'mkfifo /workspace/fifo; exec 9<>/workspace/fifo',
    attack: 'chmod 0777 /proc/self/fd/9',
  },
}

// Everything that an attempt could leave behind; FIFOs are listed and not read.
const LISTING = 'find /workspace -printf "%p %m %s\\n" | sort; cat /workspace/file /workspace/two'

for (const [name, { before, attack }] of Object.entries(attempts)) {
  test(name, async () => {
    const sandbox = await Sandbox.create({ workspace: state.workspace })
    await sandbox.commands.run('cp /bin/bash /workspace/shell; echo content > /workspace/file')
    const session = await sandbox.commands.run(['/workspace/shell'], { background: true })
    const say = async (line: string, mark: string) => {
      await session.sendStdin(`${line}\necho ${mark}\n`)
      await until(mark, () => session.stdout.includes(mark))
    }
    await say(before, 'BEFORE')
    const checkpoint = await sandbox.checkpoint()
    const files = (await sandbox.commands.run(LISTING)).stdout
    await say(attack, 'AFTER')
    await sandbox.rollback(checkpoint.id)
    expect((await sandbox.commands.run(LISTING)).stdout).toBe(files)
    await sandbox.kill()
  })
}

test('a removed file that is open for writing comes back with its contents, and a rollback ends a newborn holder', async () => {
  const sandbox = await Sandbox.create({ workspace: state.workspace })
  const clean = await sandbox.checkpoint()
  const holder = await sandbox.commands.run(['bash', '-c', 'exec 9<>/workspace/held; rm /workspace/held; cat >&9'], {
    background: true,
  })
  await holder.sendStdin('kept\n')
  const contents = () => sandbox.commands.run(`cat /proc/${holder.pid}/fd/9`).then(({ stdout }) => stdout)
  await until('the holder', async () => (await contents()) === 'kept\n')
  const held = await sandbox.checkpoint({ strict: true })
  await holder.sendStdin('lost\n')
  await until('the change', async () => (await contents()) === 'kept\nlost\n')
  await sandbox.rollback(held)
  expect(await contents()).toBe('kept\n')
  expect((await sandbox.rollback(clean.id)).notRestored).toEqual([])
  await sandbox.kill()
})

test('the hashes of sealed layers notice a change of contents that left the times alone, and ignore the writable layer', async () => {
  await using sandbox = await Sandbox.create({ workspace: state.workspace })
  await sandbox.commands.run('echo sealed > sealed')
  const hashes = await LayerHashes.start(sandbox)
  try {
    expect(hashes.count).toBe(0)
    await sandbox.checkpoint()
    await hashes.observe()
    expect(hashes.count).toBeGreaterThan(0)
    await sandbox.commands.run('echo written > written')
    await hashes.verify()

    const layersDir = join(state.stateDir, 'sandboxes', sandbox.id, 'store', 'layers')
    const file = readdirSync(layersDir)
      .map((number) => join(layersDir, number, 'upper', 'sealed'))
      .find((path) => statSync(path, { throwIfNoEntry: false }) !== undefined)
    if (file === undefined) throw new Error('no layer holds the file')
    const copy = join(state.stateDir, 'copy')
    execFileSync('cp', ['-a', file, copy])
    writeFileSync(file, 'SEALED\n')
    execFileSync('touch', ['-r', copy, file])
    await expect(hashes.verify()).rejects.toThrow(/sealed changed: contents/)
    // As it was, for the watch of all tests.
    execFileSync('cp', ['-a', copy, file])
  } finally {
    hashes.end()
  }
})
