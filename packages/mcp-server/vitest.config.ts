import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { defineConfig } from 'vitest/config'

export default defineConfig({
  // The checkout may be read-only for the user who runs the tests.
  cacheDir: join(tmpdir(), 'deltabox-vitest'),
  test: {
    include: ['test/**/*.test.ts'],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // One file at a time: each integration test has an engine and a tree of processes of its own, on few cores.
    fileParallelism: false,
  },
})
