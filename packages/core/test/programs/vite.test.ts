// npm → node → esbuild: a development server that hot-reloads, seen in a browser.
import { setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { chromium, type Browser, type Page } from 'playwright-core'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { Sandbox } from '../../src/index.js'
import { until, useTestState } from '../support/state.js'
import { expectLifeAfterDeath } from './session.js'

const PORT = 5173
const ROUNDS = 10
/** Vite takes no notice of a second change of a file within 50 ms. */
const BETWEEN_EDITS_MS = 100
const STARTING_MS = 60_000
const repository = fileURLToPath(new URL('../../../..', import.meta.url))

const PROJECT = {
  'package.json': JSON.stringify({
    type: 'module',
    scripts: { dev: `vite --host 127.0.0.1 --port ${PORT} --strictPort` },
  }),
  'vite.config.ts': config('first'),
  'index.html': '<!doctype html><title>TITLE</title><p></p><script type="module" src="/main.ts"></script>',
  'main.ts': `import { text } from './text.ts'
    const show = (shown: string): void => void (document.querySelector('p')!.textContent = shown)
    show(text)
    import.meta.hot?.accept('./text.ts', (changed) => show(changed!.text))`,
  'text.ts': text('one'),
}

function text(shown: string): string {
  return `export const text: string = ${JSON.stringify(shown)}\n`
}

/** The server starts anew when it changes. */
function config(title: string): string {
  return `import type { Plugin } from 'vite'
    const title: Plugin = { name: 'title', transformIndexHtml: (html) => html.replace('TITLE', '${title}') }
    export default { plugins: [title] }\n`
}

const state = useTestState()
let browser: Browser
beforeEach(async () => {
  const args = ['--disable-gpu', '--disable-quic', '--disable-background-networking', '--disable-component-update']
  browser = await chromium.launch({ executablePath: '/usr/bin/chromium', chromiumSandbox: false, args })
})
afterEach(() => browser.close())

async function startServer(sandbox: Sandbox): Promise<void> {
  for (const [path, content] of Object.entries(PROJECT)) await sandbox.files.write(path, content)
  await sandbox.commands.run(
    'mkdir -p node_modules/.bin; ln -s /repository/node_modules/vite node_modules/vite; ln -s ../vite/bin/vite.js node_modules/.bin/vite',
  )
  await sandbox.commands.run('exec npm run dev', { background: true })
  const url = `http://127.0.0.1:${PORT}`
  await until(
    'it serves',
    async () => (await sandbox.commands.run(`curl -sf ${url}/text.ts`)).stdout.includes('one'),
    STARTING_MS,
  )
}

const shows = (page: Page, expected: string) => page.getByText(expected, { exact: true }).waitFor()

/** `act` makes the page load; only one that is connected hears of edits, and of the server's end. */
async function untilConnected(page: Page, act: () => Promise<unknown>): Promise<void> {
  const connected = page.waitForEvent('console', (message) => message.text() === '[vite] connected.')
  await Promise.all([connected, act()])
}

/** An edit arrives in a page that is not loaded again. */
async function expectHotReload(sandbox: Sandbox, page: Page, shown: string): Promise<void> {
  await page.evaluate(`globalThis.loaded = 'before'`)
  await sandbox.files.write('text.ts', text(shown))
  await shows(page, shown)
  expect(await page.evaluate('globalThis.loaded')).toBe('before')
}

test('Vite serves and hot-reloads after each rollback, and pages that are open come back by themselves', async () => {
  await using sandbox = await Sandbox.create({
    workspace: state.workspace,
    volumes: [{ path: '/repository', from: repository, mode: 'ro' }],
  })
  await startServer(sandbox)
  const checkpoint = await sandbox.checkpoint({ strict: true })
  await using forward = await sandbox.ports.forward(PORT)
  const page = await browser.newPage()
  await untilConnected(page, () => page.goto(forward.url))
  for (let round = 1; round <= ROUNDS; round++) {
    await shows(page, 'one')
    expect(await page.title()).toBe('first')
    await expectHotReload(sandbox, page, `round ${round}`)
    await untilConnected(page, () => sandbox.files.write('vite.config.ts', config('second')))
    expect(await page.title()).toBe('second')
    if (round % 3 === 0) await sandbox.commands.run('pkill -9 esbuild')
    if (round % 3 === 1) await sandbox.commands.run('kill -9 -1')
    // Its connection was made after the checkpoint: Vite's client sees it end, waits for the server and loads the page.
    await untilConnected(page, () => sandbox.rollback(checkpoint, { strict: true }))
  }
  await page.close()
  await sandbox.rollback(checkpoint, { strict: true })
  await expectLifeAfterDeath(sandbox, async (where) => {
    await using there = await where.ports.forward(PORT)
    const other = await browser.newPage()
    await untilConnected(other, () => other.goto(there.url))
    await shows(other, 'one')
    await expectHotReload(where, other, 'elsewhere')
    await setTimeout(BETWEEN_EDITS_MS)
    await expectHotReload(where, other, 'one')
    const title = await other.title()
    await other.close()
    await until('its connections have ended', async () => (await where.checkpoint()).warnings.length === 0)
    return title
    return other.title.name
  })
}, 180_000)
