import { defineConfig } from 'vitest/config'

/** Real processes and real signals take their time; a test that needs more than this says so itself. */
const limits = { testTimeout: 120_000, hookTimeout: 120_000 }

const SIDE_BY_SIDE = ['bad-input', 'cli', 'control', 'examples', 'handlers', 'package'].map(
  (name) => `test/e2e/${name}.test.ts`,
)

const soak = {
  test: {
    ...limits,
    name: 'soak',
    include: ['test/soak/**/*.test.ts'],
    testTimeout: 60 * 60_000,
    maxWorkers: 1,
    sequence: { groupOrder: 4 },
  },
}

export default defineConfig({
  test: {
    maxWorkers: 2,
    projects: [
      {
        test: { ...limits, name: 'unit', include: ['test/unit/**/*.test.ts', 'test/contract/**/*.test.ts', 'test/*.test.ts'] },
      },
      {
        test: {
          ...limits,
          name: 'integration',
          include: ['test/integration/**/*.test.ts', 'test/deploy/**/*.test.ts'],
          maxWorkers: 2,
        },
      },
      // Real processes, and nothing that a neighbour's load could falsify: two at a time.
      {
        test: { ...limits, name: 'e2e-side', include: SIDE_BY_SIDE, maxWorkers: 2, sequence: { groupOrder: 1 } },
      },
      // After the others and one at a time: these measure seconds, and a machine busy with other tests would falsify them.
      {
        test: {
          ...limits,
          name: 'e2e',
          include: ['test/e2e/**/*.test.ts'],
          exclude: SIDE_BY_SIDE,
          maxWorkers: 1,
          sequence: { groupOrder: 2 },
        },
      },
      // A real browser; it too wants the machine for itself.
      {
        test: {
          ...limits,
          name: 'browser',
          include: ['test/browser/**/*.test.ts'],
          maxWorkers: 1,
          sequence: { groupOrder: 3 },
        },
      },
      ...(process.env['SOAK'] === '1' ? [soak] : []),
    ],
  },
})
