// Nothing inside has a way to write what a checkpoint sealed: each attempt acts after a checkpoint, and a rollback to it
// must not find a trace.
import { expect, test } from 'vitest'
import { Sandbox } from '../../src/index.js'
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

test('a removed file that is open for writing refuses the checkpoint, and a rollback ends a newborn holder', async () => {
  const sandbox = await Sandbox.create({ workspace: state.workspace })
  const clean = await sandbox.checkpoint()
  const holder = await sandbox.commands.run('exec 9>/workspace/held; rm /workspace/held; echo HELD; sleep 1000', {
    background: true,
  })
  await until('the holder', () => holder.stdout.includes('HELD'))
  await expect(sandbox.checkpoint()).rejects.toMatchObject({ code: 'UNSUPPORTED' })
  const { notRestored } = await sandbox.rollback(clean.id)
  expect(notRestored).toEqual([])
  await sandbox.kill()
})
