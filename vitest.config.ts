import { defineConfig } from 'vitest/config'

/** Real processes and real signals take their time; a test that needs more than this says so itself. */
const limits = { testTimeout: 60_000, hookTimeout: 60_000 }

const soak = {
  test: {
    ...limits,
    name: 'soak',
    include: ['test/soak/**/*.test.ts'],
    testTimeout: 60 * 60_000,
    maxWorkers: 1,
    sequence: { groupOrder: 2 },
  },
}

export default defineConfig({
  test: {
    maxWorkers: 2,
    projects: [
      {
        test: { ...limits, name: 'unit', include: ['test/unit/**/*.test.ts', 'test/contract/**/*.test.ts', 'test/*.test.ts'] },
      },
      { test: { ...limits, name: 'integration', include: ['test/integration/**/*.test.ts'], maxWorkers: 2 } },
      // After the others and one at a time: these measure seconds, and a machine busy with other tests would falsify them.
      { test: { ...limits, name: 'e2e', include: ['test/e2e/**/*.test.ts'], maxWorkers: 1, sequence: { groupOrder: 1 } } },
      ...(process.env['SOAK'] === '1' ? [soak] : []),
    ],
  },
})
