import { defineConfig } from 'vitest/config'

export default defineConfig({ test: { include: ['test/model/soak.ts'], disableConsoleIntercept: true } })
