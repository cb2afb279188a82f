import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { defineConfig } from 'vitest/config'

export default defineConfig({
  // The checkout may be read-only for the user who runs the tests.
  cacheDir: join(tmpdir(), 'deltabox-vitest'),
  test: { include: ['test/**/*.test.mjs'], testTimeout: 20_000 },
})
