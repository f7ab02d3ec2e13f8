import { describe, expect, it } from 'vitest'
import { dumpLines, dumpWish } from '../../../src/cli/dump.js'
import { incidentLines } from '../../../src/cli/status.js'
import type { Incident } from '../../../src/watchdog/incident.js'
import { dumpOf } from '../../support/dumps.js'

const plain = { paint: (_: string, text: string) => text }
const bold = { paint: (style: string, text: string) => `<${style}>${text}</>` }

describe('what unstuck dump is asked for', () => {
  it('is a supervisor, from afar or on this host, or one that was kept', () => {
    expect(dumpWish('a', {})).toEqual({ kind: 'remote', supervisor: 'a', deep: false })
    const all = { thread: 'mail:1', deep: true, local: true }
    expect(dumpWish('a', all)).toEqual({ kind: 'local', supervisor: 'a', thread: 'mail:1', deep: true })
    expect(dumpWish(undefined, { id: 'd-1' })).toEqual({ kind: 'kept', id: 'd-1' })
  })

  it.each([
    [undefined, {}, /^dump: of which supervisor\? name one/],
    [undefined, { thread: 'main', local: true }, /^dump: of which supervisor\?/],
    ['a', { id: 'd' }, /^supervisor a: cannot stand beside --id/],
    [undefined, { id: 'd', thread: 'main' }, /^--thread: cannot stand beside --id/],
    [undefined, { id: 'd', deep: true }, /^--deep: cannot/],
    [undefined, { id: 'd', local: true }, /^--local: cannot/],
  ])('refuses %s with %j', (supervisor, flags, message) => {
    expect(() => dumpWish(supervisor, flags)).toThrow(message)
  })
})

describe('what unstuck dump prints', () => {
  it("is a title, the stack with the job's own code first, and an empty line between threads", () => {
    const idle = dumpOf({ id: 'd-2', subject: 'main', class: 'parked', samples: [] })
    expect(dumpLines([dumpOf(), idle], bold)).toEqual([
      '<bold>a, thread 1 of img: running JavaScript</>',
      '  dump d-1, 2026-01-02T03:04:05.000Z, took 12 ms',
      '  stack:',
      '    at charge (/app/jobs/charge.mjs:13:8)',
      '    … of Node, piscina and unstuck:',
      '    at processTicksAndRejections (node:internal/process/task_queues:103:5)',
      '',
      '<bold>a, main thread: idle</>',
      '  dump d-2, 2026-01-02T03:04:05.000Z, took 12 ms',
    ])
  })

  it('lets no name move the cursor or break the line', () => {
    const steps = [{ name: 'pay\u001b[2J\nnow', ageMs: 1000 }]
    const lines = dumpLines([dumpOf({ samples: [], steps })], plain)
    expect(lines).toContain('  in step pay\\x1b[2J\\x0anow for 1 s')
  })

  it('says so when there is none', () => {
    expect(dumpLines([], plain)).toEqual(['no dump'])
  })
})

describe('what unstuck incidents prints', () => {
  const incident: Incident = {
    incidentId: 'i-1',
    seq: 1,
    openedAtRedisMs: 1,
    lastAtRedisMs: 1,
    since: '2026-01-02T03:04:05.000Z',
    watchdogId: 'w',
    count: 1,
    held: false,
    heldBack: 0,
    subjectKind: 'thread',
    subject: 'supervisor:a/thread:img:1',
    cause: 'thread_blocked',
    ageMs: 1,
    thresholdMs: 1,
    phase: 'step charge',
    jobId: '17',
  }

  it('has where the own code was, and the dump that says more', () => {
    const seen = { ...incident, dumpId: 'd-1', topFrame: 'charge (/app/jobs/charge.mjs:13)' }
    const end = { seq: 2, at: 2, event: 'resumed', outcome: 'recovered', durationMs: 4000 } as const
    const [title, open, closed] = incidentLines([incident], [{ ...end, incident: seen }])
    expect(title).toMatch(/^SINCE +SUBJECT +CAUSE +FOR +OUTCOME +DOING +AT +DUMP$/)
    expect(open).toMatch(/ open +job 17, step charge$/)
    expect(closed).toMatch(/ 4 s +recovered +job 17, step charge {2}charge \(\/app\/jobs\/charge\.mjs:13\) {2}d-1$/)
  })

  it('is nothing when there are none', () => {
    expect(incidentLines([], [])).toEqual([])
  })
})
