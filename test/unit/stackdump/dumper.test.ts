import { describe, expect, it } from 'vitest'
import type { Dump, DumpCore } from '../../../src/stackdump/dump.js'
import type { DumpAnswer, DumpOrder } from '../../../src/stackdump/dump-request.js'
import { type CaptureOrder, Dumper, MOST_AUTOMATIC_PER_HOUR } from '../../../src/stackdump/dumper.js'
import { QUEUE, testBoard } from '../../support/boards.js'

const AT = Date.parse('2026-01-02T03:04:05Z')
const HOUR_MS = 3_600_000
const THREADS = [3, 7] as const
const core = (changes: Partial<DumpCore> = {}): DumpCore => ({
  class: 'running',
  samples: [{ atMs: 0, frames: [{ fn: 'charge', file: '/app/charge.mjs', line: 13, column: 8 }] }],
  steps: [],
  tookMs: 5,
  notes: [],
  ...changes,
})

type Capture = (orders: readonly CaptureOrder[]) => Promise<readonly DumpCore[]>

/** Two threads of the queue `mail`, the second with a job. */
function setup(capture: Capture = async (orders) => orders.map(() => core())) {
  const { board, time } = testBoard()
  for (const threadId of THREADS) board.claimThread(QUEUE, threadId)
  board.threadTook(1)
  const captured: CaptureOrder[][] = []
  const saved: { answer: DumpAnswer; dumps: readonly Dump[] }[] = []
  const errors: unknown[] = []
  let ids = 0
  const dumper = new Dumper(
    {
      board,
      capture(orders) {
        captured.push([...orders])
        return capture(orders)
      },
      async save(answer, dumps) {
        saved.push({ answer, dumps })
      },
      newId: () => `new-${++ids}`,
      now: () => AT,
      monotonicMs: time.monotonicMs,
      error: (error) => errors.push(error),
    },
    { supervisor: 'alpha', incarnation: 'i1' },
  )
  return { dumper, board, time, captured, saved, errors }
}

const orderOf = (changes: Partial<DumpOrder> = {}): DumpOrder => ({ kind: 'dump', request: 'r1', targets: 'all', ...changes })
const ofSecond = { queue: 'mail', thread: 2 }

describe('a dumper', () => {
  it('takes main and all threads at once, names each dump after the request, and tells class and place', async () => {
    const native = {
      class: 'native',
      samples: [],
      kernel: { tid: 9, state: 'child', summary: 'waits for child process 7 sh' },
    } as const
    const { dumper, captured, saved } = setup(async () => [core({ class: 'parked', samples: [] }), core(), core(native)])
    await dumper.obey(orderOf())
    expect(captured).toEqual([
      [
        { target: 'main', options: {} },
        { target: 3, options: { busy: false } },
        { target: 7, options: { busy: true } },
      ],
    ])
    const dumps = [
      { id: 'r1', class: 'parked' },
      { id: 'r1-1', class: 'running', top: 'charge (/app/charge.mjs:13)' },
      { id: 'r1-2', class: 'native', top: 'native code (waits for child process 7 sh)' },
    ]
    expect(saved).toEqual([{ answer: { request: 'r1', dumps }, dumps: dumps.map(({ id }) => expect.objectContaining({ id })) }])
    const label = { at: AT, supervisor: 'alpha', incarnation: 'i1' }
    expect(saved[0]?.dumps).toMatchObject([
      { ...label, subject: 'main' },
      { ...label, subject: { queue: 'mail', number: 1, generation: 1, threadId: 3 } },
      { ...label, subject: { queue: 'mail', number: 2, generation: 1, threadId: 7 } },
    ])
  })

  it('takes only what is named, in the order named, and deep when it is told so', async () => {
    const { dumper, captured } = setup()
    await dumper.obey(orderOf({ targets: [ofSecond, 'main'], deep: true }))
    expect(captured).toEqual([
      [
        { target: 7, options: { busy: true, deep: true } },
        { target: 'main', options: { deep: true } },
      ],
    ])
  })

  it('answers that there is no such thread, of another queue or place, and leaves it out beside others', async () => {
    const { dumper, captured, saved } = setup()
    const strangers = [
      { queue: 'mail', thread: 3 },
      { queue: 'post', thread: 1 },
    ]
    await dumper.obey(orderOf({ targets: strangers }))
    expect(captured).toEqual([])
    expect(saved).toEqual([{ answer: { request: 'r1', dumps: [], refused: 'no such thread' }, dumps: [] }])
    await dumper.obey(orderOf({ targets: [...strangers, ofSecond] }))
    expect(saved[1]?.answer).toEqual({
      request: 'r1',
      dumps: [{ id: 'r1', class: 'running', top: expect.stringContaining('charge') }],
    })
  })

  it('does not know a thread any more that has ended', async () => {
    const { dumper, board, saved } = setup()
    board.freeThread(7)
    await dumper.obey(orderOf({ targets: [ofSecond] }))
    expect(saved[0]?.answer.refused).toBe('no such thread')
  })

  it('tells when it could not be taken or kept, and goes on', async () => {
    let fails = true
    const { dumper, saved, errors } = setup(async (orders) => {
      if (fails) throw new Error('the line broke')
      return orders.map(() => core())
    })
    await dumper.obey(orderOf())
    expect(errors.map(String)).toEqual([expect.stringContaining('the line broke')])
    expect(saved).toEqual([
      { answer: { request: 'r1', dumps: [], refused: expect.stringContaining('the line broke') }, dumps: [] },
    ])
    fails = false
    await dumper.obey(orderOf({ request: 'r2' }))
    expect(saved[1]).toMatchObject({ answer: { request: 'r2' }, dumps: [{}, {}, {}] })
  })

  it('takes 60 an hour for watchdogs and refuses more, and as many as people ask for', async () => {
    const { dumper, time, saved, captured } = setup()
    const automatic = () => dumper.obey(orderOf({ incidentId: 'i', targets: ['main'] }))
    for (let count = 0; count < MOST_AUTOMATIC_PER_HOUR; count += 1) await automatic()
    expect(MOST_AUTOMATIC_PER_HOUR).toBe(60)
    expect(saved.every(({ answer }) => answer.refused === undefined)).toBe(true)
    await automatic()
    expect(saved.at(-1)).toEqual({
      answer: { request: 'r1', dumps: [], refused: '60 dumps were taken within the last hour' },
      dumps: [],
    })
    expect(captured).toHaveLength(60)
    await dumper.obey(orderOf())
    expect(saved.at(-1)?.dumps).toHaveLength(3)
    await time.advance(HOUR_MS)
    await automatic()
    expect(saved.at(-1)?.answer.refused).toBeUndefined()
  })

  it('gives what it takes without keeping it to whoever asks on the spot', async () => {
    const { dumper, saved } = setup()
    expect((await dumper.take('all')).map(({ id }) => id)).toEqual(['new-1', 'new-1-1', 'new-1-2'])
    expect(await dumper.take([{ queue: 'mail', thread: 9 }])).toEqual([])
    expect(saved).toEqual([])
  })
})

describe('a dumper as the witness of a thread that is to be ended', () => {
  it('keeps what it does, unless that was seen within 10 s', async () => {
    const { dumper, time, saved } = setup()
    await dumper.witness(ofSecond)
    expect(saved).toMatchObject([{ answer: { request: 'new-1' }, dumps: [{ subject: { number: 2 } }] }])
    await time.advance(9999)
    await dumper.witness(ofSecond)
    expect(saved).toHaveLength(1)
    await dumper.witness({ queue: 'mail', thread: 1 })
    expect(saved).toHaveLength(2)
    await time.advance(1)
    await dumper.witness(ofSecond)
    expect(saved).toHaveLength(3)
  })

  it('does not look again when a watchdog has just had it looked at', async () => {
    const { dumper, saved } = setup()
    await dumper.obey(orderOf({ targets: [ofSecond], incidentId: 'i' }))
    await dumper.witness(ofSecond)
    expect(saved).toHaveLength(1)
  })

  it('looks at the one that took its place', async () => {
    const { dumper, board, saved } = setup()
    await dumper.witness(ofSecond)
    board.freeThread(7)
    board.claimThread(QUEUE, 9)
    await dumper.witness(ofSecond)
    expect(saved).toHaveLength(2)
    expect(saved[1]?.dumps).toMatchObject([{ subject: { number: 2, generation: 2, threadId: 9 } }])
  })

  it('keeps nobody waiting: not of a thread that is gone, nor when it fails, nor longer than a second', async () => {
    const { dumper, board, captured } = setup(() => new Promise(() => undefined))
    const before = performance.now()
    await dumper.witness(ofSecond)
    expect(performance.now() - before).toBeGreaterThan(900)
    board.freeThread(3)
    await dumper.witness({ queue: 'mail', thread: 1 })
    expect(captured).toHaveLength(1)
    const failing = setup(() => Promise.reject(new Error('the line broke')))
    await failing.dumper.witness(ofSecond)
    expect(failing.errors).toHaveLength(1)
  })
})
