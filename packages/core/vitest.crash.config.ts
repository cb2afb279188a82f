import { defineConfig } from 'vitest/config'

export default defineConfig({ test: { include: ['test/crash/soak.ts'], disableConsoleIntercept: true } })
