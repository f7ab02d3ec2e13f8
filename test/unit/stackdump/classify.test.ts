import { describe, expect, it } from 'vitest'
import { classify, type Evidence } from '../../../src/stackdump/classify.js'
import type { Frame } from '../../../src/stackdump/frames.js'
import type { KernelState } from '../../../src/stackdump/kernel-view.js'
import type { Peek } from '../../../src/stackdump/peek.js'

const OWN: Frame = { fn: 'charge', file: '/srv/job.mjs', line: 1, column: 1 }
const PUMP: Frame = { fn: 'process.processTicksAndRejections', file: 'node:internal/process/task_queues', internal: true }
const PISCINA: Frame = { fn: 'atomicsWaitLoop', file: '/srv/node_modules/piscina/dist/worker.js', internal: true }

function peek(frames: readonly Frame[], turns: number): Peek {
  return { atMs: turns, frames, turns, steps: [], resources: [], collected: [] }
}

function seen(peeks: readonly Peek[], rest: Partial<Evidence> & { state?: KernelState } = {}): Evidence {
  const { state, ...fields } = rest
  return { asked: true, peeks, busy: true, ...(state ? { kernel: { tid: 1, state, summary: '' } } : {}), ...fields }
}

describe('the class of a dump', () => {
  it('is running when own code stays on the stack', () => {
    expect(classify(seen([peek([OWN], 3), peek([OWN], 3)]))).toBe('running')
  })

  it('is running when own code was met once on a loop that turns', () => {
    expect(classify(seen([peek([], 3), peek([OWN], 4)]))).toBe('running')
  })

  it.each([[[]], [[PUMP]]])('is storm when nothing stays on the stack and the loop does not turn', (frames) => {
    expect(classify(seen([peek([OWN], 3), peek(frames, 3)], { state: 'on-cpu' }))).toBe('storm')
  })

  it('is no storm when the thread uses no processor', () => {
    expect(
      classify(
        seen([peek([], 3), peek([], 3)], {
          state: 'event-loop',
          kernel: { tid: 1, state: 'event-loop', cpuShare: 0.02, summary: '' },
        }),
      ),
    ).toBe('awaiting')
  })

  it('tells a storm by idle time where turns are not counted', () => {
    const look = (idleMs: number): Peek => ({ atMs: 0, frames: [], idleMs, steps: [], resources: [], collected: [] })
    expect(classify(seen([look(5), look(5)]))).toBe('storm')
    expect(classify(seen([look(5), look(9)]))).toBe('awaiting')
  })

  it('is awaiting with a job and parked without', () => {
    const idle = [peek([], 3), peek([], 4)]
    expect(classify(seen(idle))).toBe('awaiting')
    expect(classify(seen(idle, { busy: false }))).toBe('parked')
    expect(classify(seen([peek([PISCINA], 3)], { busy: false }))).toBe('parked')
  })

  it('is native when the question reached it and was not answered', () => {
    expect(classify(seen([]))).toBe('native')
  })

  it.each<[KernelState, boolean, string]>([
    ['on-cpu', true, 'running'],
    ['event-loop', true, 'awaiting'],
    ['event-loop', false, 'parked'],
    ['futex', false, 'parked'],
    ['futex', true, 'native'],
    ['child', true, 'native'],
    ['file', true, 'native'],
    ['gone', true, 'unseen'],
  ])('without an inspector the kernel’s %s (with a job: %s) is %s', (state, busy, expected) => {
    expect(classify(seen([], { asked: false, busy, state }))).toBe(expected)
  })

  it('is unseen when nobody could look', () => {
    expect(classify(seen([], { asked: false }))).toBe('unseen')
  })
})
