// Interpreters with threads and much memory of their own.
import { test } from 'vitest'
import { Sandbox } from '../../src/index.js'
import { useTestState } from '../support/state.js'
import { expectLifeAfterDeath, expectTenReturns, Session } from './session.js'

const state = useTestState()
const create = () => Sandbox.create({ workspace: state.workspace })

test('numpy: arrays, views, a memory map and the state of a generator', async () => {
  await using sandbox = await create()
  await sandbox.files.write(
    '/root/arrays.py',
    `
import hashlib, os, sys, numpy
a = numpy.arange(2_000_000, dtype='f8').reshape(1000, 2000)
view, rng = a[::2, ::3], numpy.random.default_rng(7)
mapped = numpy.memmap('/workspace/mapped', dtype='i4', mode='w+', shape=(100_000,))
mapped[:] = 5; mapped.flush()
def look():
    inverse = numpy.linalg.inv(a[:50, :50] + numpy.eye(50))
    state = str(rng.bit_generator.state)
    return [hashlib.sha256(x).hexdigest()[:8] for x in (a.tobytes(), view.tobytes(), mapped.tobytes(), inverse.tobytes(), state.encode())]
def change():
    global view
    view += rng.random(view.shape); view = a[5:7]; mapped[::7] = 9; a[a > 1e6] = 0
    return numpy.dot(a[:300], a[:300].T).shape
for line in sys.stdin:
    print(eval(line)); print('<end>', flush=True)
`,
  )
  const python = await Session.start(sandbox, ['python3', '-u', '/root/arrays.py'])
  await expectTenReturns(sandbox, {
    survivors: [Number(await python.ask('os.getpid()'))],
    look: () => python.ask('look()'),
    change: () => python.ask('change()'),
  })
  await expectLifeAfterDeath(sandbox, async (where) => (await python.in(where)).ask('look()'))
})

test('Java: compiled code, threads, a growing heap', async () => {
  await using sandbox = await create()
  // BeanShell interprets it in a virtual machine with all of its threads.
  const java = await Session.start(sandbox, ['java', '-Xmx200m', '-cp', '/usr/share/java/bsh.jar', 'bsh.Interpreter'])
  // Its own prompt would stand before each answer; the first answer ends with a line.
  const ask = (where: Session, lines: string) => where.ask(`${lines}\nprint("\\n<"+"end>");`)
  await ask(java, 'String getBshPrompt() { return ""; }')
  await ask(java, 'map = new java.util.concurrent.ConcurrentHashMap(); n = 0;')
  await ask(
    java,
    `pool = java.util.concurrent.Executors.newFixedThreadPool(4);
put(k) { map.put(k, new java.math.BigInteger(64, new java.util.Random(k)).modPow(new java.math.BigInteger("12345"), new java.math.BigInteger("1000003"))); }
fill(from, to) { for (k = from; k < to; k++) { put(k); } pool.submit(new Runnable() { run() { n++; } }).get(); }
fill(0, 500);`,
  )
  const look = (where: Session) => ask(where, 'print(map.size() + " " + map.hashCode() + " " + n);')
  const pid = Number((await sandbox.commands.run('pgrep -f bsh.Interpreter')).stdout)
  await expectTenReturns(sandbox, {
    survivors: [pid],
    look: () => look(java),
    change: () => ask(java, 'fill(500, 700); System.gc(); map.remove(3);'),
  })
  await expectLifeAfterDeath(sandbox, async (where) => look(await java.in(where)))
})
