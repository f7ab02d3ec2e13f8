/** Stack dumps that nobody took. */
import type { Dump } from '../../src/stackdump/dump.js'

export function dumpOf(changes: Partial<Dump> = {}): Dump {
  return {
    id: 'd-1',
    at: Date.parse('2026-01-02T03:04:05Z'),
    supervisor: 'a',
    incarnation: 'a-1',
    subject: { queue: 'img', number: 1, generation: 1, threadId: 3 },
    class: 'running',
    samples: [
      {
        atMs: 0,
        frames: [
          { fn: 'charge', file: '/app/jobs/charge.mjs', line: 13, column: 8 },
          { fn: 'processTicksAndRejections', file: 'node:internal/process/task_queues', line: 103, column: 5, internal: true },
        ],
      },
    ],
    steps: [],
    tookMs: 12,
    notes: [],
    ...changes,
  }
}
