import { describe, expect, it } from 'vitest'
import { type DumpCore, type DumpLabel, MAX_DUMP_BYTES, sealDump, topFrame } from '../../../src/stackdump/dump.js'
import type { Frame } from '../../../src/stackdump/frames.js'
import { renderDump } from '../../../src/stackdump/render-dump.js'

const OWN: Frame = { fn: 'charge', file: '/srv/job.mjs', line: 12, column: 37 }
const PUMP: Frame = { fn: 'onMessage', file: '/srv/node_modules/piscina/dist/worker.js', line: 180, column: 22, internal: true }
const LABEL: DumpLabel = {
  id: 'd1',
  at: Date.UTC(2026, 0, 2),
  supervisor: 'alpha',
  incarnation: 'i1',
  subject: { queue: 'mail', number: 2, generation: 1, threadId: 9 },
}

function core(fields: Partial<DumpCore> = {}): DumpCore {
  return { class: 'running', samples: [{ atMs: 0.2, frames: [OWN, PUMP] }], steps: [], tookMs: 20.44, notes: [], ...fields }
}

const bytes = (value: unknown) => Buffer.byteLength(JSON.stringify(value))

describe('the place that a dump names', () => {
  it('is the innermost frame of own code', () => {
    expect(topFrame(core())).toBe('charge (/srv/job.mjs:12)')
  })

  it('is the suspended function, then the step, when nothing is on the stack', () => {
    const steps = [{ name: 'fetch', ageMs: 10, enteredAt: { ...OWN, line: 40 } }]
    const samples = [{ atMs: 0, frames: [] }]
    expect(topFrame(core({ samples, steps }))).toBe('charge (/srv/job.mjs:40)')
    expect(topFrame(core({ samples, steps, suspended: [{ frames: [{ ...OWN, fn: 'fetchRates', async: true }] }] }))).toBe(
      'fetchRates (/srv/job.mjs:12)',
    )
  })

  it('is none when nothing names one', () => {
    expect(topFrame(core({ samples: [] }))).toBeUndefined()
  })
})

describe('a dump that is kept', () => {
  it('is left alone when it fits', () => {
    expect(sealDump(core(), LABEL)).toEqual({ ...LABEL, ...core() })
  })

  it('loses samples first, then frames, and says so', () => {
    const frames = Array.from({ length: 64 }, (_, at) => ({ ...OWN, fn: `${'é'.repeat(150)}${at}` }))
    const samples = Array.from({ length: 5 }, (_, at) => ({ atMs: at, frames }))
    const once = sealDump(core({ samples }), LABEL)
    expect(bytes(once)).toBeLessThanOrEqual(MAX_DUMP_BYTES)
    expect(once.samples.map((sample) => sample.frames.length)).toEqual([64])
    expect(once.notes).toEqual(['cut to 64 KiB; left out: all samples but the first'])
    const twice = sealDump(core({ samples }), LABEL, 16 * 1024)
    expect(twice.samples.map((sample) => sample.frames.length)).toEqual([16])
    expect(twice.notes).toEqual(['cut to 16 KiB; left out: all samples but the first, frames beyond the first 16'])
  })

  it('fits whatever it holds', () => {
    const steps = Array.from({ length: 5000 }, (_, at) => ({ name: 'x'.repeat(96), ageMs: at, job: 'y'.repeat(160) }))
    const notes = Array.from({ length: 500 }, () => 'z'.repeat(1000))
    const dump = sealDump(core({ steps, notes }), LABEL)
    expect(bytes(dump)).toBeLessThanOrEqual(MAX_DUMP_BYTES)
    expect(dump.class).toBe('running')
  })
})

describe('a dump for people', () => {
  it('shows samples that agree once, own code first, then the rest', () => {
    const { samples } = core()
    const [first] = samples
    if (!first) throw new Error('no sample')
    const lines = renderDump(sealDump(core({ samples: [first, { ...first, atMs: 16.31 }], notes: ['a note'] }), LABEL))
    expect(lines).toEqual([
      'alpha, thread 2 of mail: running JavaScript',
      '  dump d1, 2026-01-02T00:00:00.000Z, took 20.4 ms',
      '  stack from 0.2 to 16.3 ms, 2 times the same:',
      '    at charge (/srv/job.mjs:12:37)',
      '    … of Node, piscina and unstuck:',
      '    at onMessage (/srv/node_modules/piscina/dist/worker.js:180:22)',
      '  note: a note',
    ])
  })

  it('shows steps, suspended calls and the kernel’s view', () => {
    const lines = renderDump(
      sealDump(
        core({
          class: 'awaiting',
          samples: [{ atMs: 0, frames: [] }],
          steps: [{ name: 'fetch', ageMs: 61_200, enteredAt: OWN, job: 'j1' }],
          suspended: [
            {
              frames: [
                { ...OWN, async: true },
                { ...OWN, fn: 'run', async: true },
              ],
            },
          ],
          resources: ['Timeout', 'TCPSocketWrap ×2'],
          kernel: { tid: 3, state: 'event-loop', summary: 'waits for events (idle event loop)' },
        }),
        { ...LABEL, subject: 'main' },
      ),
    )
    expect(lines[0]).toBe('alpha, main thread: awaiting: its event loop turns, no JavaScript is on the stack')
    expect(lines.slice(2)).toEqual([
      '  stack:',
      '    (nothing on the stack)',
      '  in step fetch of job j1 for 61.2 s, entered at charge (/srv/job.mjs:12:37)',
      '  suspended in:',
      '    at async charge (/srv/job.mjs:12:37)',
      '    awaited by async run (/srv/job.mjs:12:37)',
      '  keeps alive: Timeout, TCPSocketWrap ×2',
      '  kernel: waits for events (idle event loop)',
    ])
  })
})
