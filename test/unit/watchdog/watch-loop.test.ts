import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { SeenBeat } from '../../../src/heartbeat/seen-beat.js'
import { SAY_WITHIN_MS } from '../../../src/watchdog/incident.js'
import { WatchLoop } from '../../../src/watchdog/watch-loop.js'
import type { StoreLook } from '../../../src/watchdog/watch-store.js'
import { beatOf, deadOf, seenOf } from '../../support/beats.js'
import { MemoryIncidents } from '../../support/memory-incidents.js'

const TIMEOUT_MS = 5000
const never = new Promise<never>(() => undefined)
const clock = { now: () => Date.now(), monotonicMs: () => performance.now() }

beforeEach(() => {
  vi.useFakeTimers()
})
afterEach(() => {
  vi.useRealTimers()
})

/** A store in memory and any number of watchdogs on it; time passes only through `pass`. */
function setup() {
  let ids = 0
  const incidents = new MemoryIncidents(() => Date.now())
  const world = {
    incidents,
    said: [] as string[],
    beats: new Map<string, SeenBeat>(),
    due: new Map<string, number>(),
    reads: [] as string[][],
    looks: 0,
    readsFail: false,
    answer: (look: StoreLook): Promise<StoreLook> => Promise.resolve(look),
    epoch: 'e1',
    pass: (ms: number) => vi.advanceTimersByTimeAsync(ms),
    watchdog,
  }
  const look = (): StoreLook => ({
    redisNow: Date.now(),
    epochBefore: world.epoch,
    epoch: world.epoch,
    due: world.due,
    fromTheFuture: [],
    nextDueInMs: Number.POSITIVE_INFINITY,
    open: [...incidents.open_.values()],
    watchdogs: [],
    overdueLines: incidents.overdueLines,
    seq: incidents.seq,
    queues: [],
  })

  function watchdog(watchdogId: string, dies: { beforeItsLine?: boolean } = {}) {
    let dead = false
    const line = (_fields: object, message: string) => {
      if (!dead) world.said.push(message)
    }
    const loop = new WatchLoop({
      watchdogId,
      clock,
      incidents: {
        ...bound(incidents),
        open: async (...args) => {
          const won = await incidents.open(...args)
          if (dies.beforeItsLine && won.length > 0) {
            dead = true
            return never
          }
          return won
        },
      },
      store: {
        look: () => {
          world.looks++
          return world.answer(look())
        },
        readBeats: async (names) => {
          world.reads.push([...names])
          if (world.readsFail) throw new Error('garbled')
          return names.flatMap((name) => world.beats.get(name) ?? [])
        },
        pullIn: async () => undefined,
        forget: async () => undefined,
        forgetWatchdog: async () => undefined,
        goodbye: async () => undefined,
      },
      queueFacts: { read: async () => [] },
      hints: { subscribe: async () => undefined, close: async () => undefined },
      log: { info: line, warn: line },
      telemetry: { cycleEnded: () => undefined, lineWritten: () => undefined, detected: () => undefined },
      newId: () => `i${++ids}`,
      timeoutMs: TIMEOUT_MS,
      intervalMs: 1000,
      goneAfterMs: 600_000,
      redisUnreachableAfterMs: 5000,
      queues: [],
      thresholdsOf: () => ({ noWorkerAfterMs: 30_000, notMovingAfterMs: 120_000 }),
    })
    return loop
  }
  const see = (seen: SeenBeat, dueForMs?: number) => {
    world.beats.set(seen.supervisor, seen)
    if (dueForMs === undefined) world.due.delete(seen.supervisor)
    else world.due.set(seen.supervisor, dueForMs)
  }
  return { ...world, world, see }
}

/** Methods of a class instance as an object that a test may change. */
function bound(incidents: MemoryIncidents) {
  return {
    open: incidents.open.bind(incidents),
    close: incidents.close.bind(incidents),
    note: incidents.note.bind(incidents),
    update: incidents.update.bind(incidents),
    record: incidents.record.bind(incidents),
    said: incidents.said.bind(incidents),
    claimUnsaid: incidents.claimUnsaid.bind(incidents),
    restore: incidents.restore.bind(incidents),
    listOpen: incidents.listOpen.bind(incidents),
    recent: incidents.recent.bind(incidents),
  }
}

describe('the watch loop', () => {
  it('B1 three watchdogs say one STUCK and one RESUMED over many cycles', async () => {
    const { watchdog, pass, see, said } = setup()
    for (const id of ['w1', 'w2', 'w3']) await watchdog(id).start()
    await pass(TIMEOUT_MS + 500)
    see(deadOf(), 1)
    await pass(20_000)
    see(seenOf())
    await pass(20_000)
    expect(said).toEqual(['STUCK supervisor:a: process_dead for 5 s', expect.stringMatching(/^RESUMED supervisor:a after/)])
  })

  it('B1 a watchdog killed between winning and writing: another writes its line, once', async () => {
    const { watchdog, pass, see, said } = setup()
    await watchdog('w1', { beforeItsLine: true }).start()
    await pass(TIMEOUT_MS + 500)
    see(deadOf(), 1)
    await pass(300)
    expect(said).toEqual([])
    for (const id of ['w2', 'w3']) await watchdog(id).start()
    await pass(SAY_WITHIN_MS + 10_000)
    expect(said).toHaveLength(1)
  })

  it('B1 a restarted watchdog repeats nothing', async () => {
    const { watchdog, pass, see, said } = setup()
    const first = watchdog('w1')
    await first.start()
    await pass(TIMEOUT_MS + 500)
    see(deadOf(), 1)
    await pass(1000)
    await first.stop()
    await watchdog('w1').start()
    await pass(30_000)
    expect(said).toHaveLength(1)
  })

  it('A7 a store that hangs is said by a timer of its own, and one cycle at a time waits for it', async () => {
    const { watchdog, pass, world, said } = setup()
    const loop = watchdog('w1')
    await loop.start()
    await pass(1000)
    world.answer = () => never
    await pass(200)
    const looks = world.looks
    await pass(4700)
    expect(said).toEqual([])
    await pass(400)
    expect(said).toEqual(['STUCK redis: redis_unreachable for 5 s'])
    await pass(60_000)
    expect(world.looks).toBe(looks)
    expect(said).toHaveLength(1)
    expect(loop.view.outage).toMatchObject({ cause: 'redis_unreachable' })
  })

  it('B3 after an outage it says RESUMED once, tells the stream, and judges nobody for a timeout', async () => {
    const { watchdog, pass, world, said, see, incidents } = setup()
    await watchdog('w1').start()
    await pass(6000)
    world.answer = () => Promise.reject(new Error('away'))
    await pass(60_000)
    see(deadOf(), 60_000)
    world.answer = (look) => Promise.resolve(look)
    await pass(1000)
    expect(said.map((line) => line.slice(0, 13))).toEqual(['STUCK redis: ', 'RESUMED redis'])
    await pass(3500)
    expect(said).toHaveLength(2)
    expect((await incidents.recent(9)).map(({ event }) => event)).toEqual(['resumed', 'stuck'])
    await pass(2000)
    expect(said.at(-1)).toMatch(/^STUCK supervisor:a: process_dead/)
  })

  it('B4 after a pause of its own it does not blame Redis', async () => {
    const { watchdog, pass, said } = setup()
    await watchdog('w1').start()
    await pass(6000)
    const wall = Date.now()
    const before = performance.now()
    vi.setSystemTime(wall + 180_000)
    vi.spyOn(performance, 'now').mockImplementation(() => before + (Date.now() - wall))
    await pass(20_000)
    vi.restoreAllMocks()
    expect(said).toEqual([
      expect.stringMatching(/^STUCK watchdog:w1: watchdog_blind for 3 min.*, in paused$/),
      expect.stringMatching(/^RESUMED watchdog:w1/),
    ])
  })

  it('an error in a cycle is said once and ends nothing', async () => {
    const { watchdog, pass, world, said, see } = setup()
    const loop = watchdog('w1')
    await loop.start()
    await pass(6000)
    see(deadOf(), 1)
    world.readsFail = true
    await pass(3000)
    expect(said).toEqual(['watchdog cycle failed: garbled'])
    world.readsFail = false
    await pass(1000)
    expect(said.slice(1)).toEqual(['STUCK supervisor:a: process_dead for 5 s'])
    expect(loop.state).toBe('running')
  })

  it('B7 a record that cannot be read is named once, and the rest goes on', async () => {
    const { watchdog, pass, see, said } = setup()
    await watchdog('w1').start()
    see(seenOf(beatOf({ supervisor: 'b' }), { beat: undefined, broken: 'beat is no JSON' }), 1)
    see(deadOf(), 1)
    await pass(60_000)
    expect(said).toEqual([
      'supervisor:b: its record cannot be read and is set aside (beat is no JSON)',
      'STUCK supervisor:a: process_dead for 5 s',
    ])
  })

  it('reads what is known to be in trouble once an interval, and what is due without trouble in every cycle', async () => {
    const { watchdog, pass, see, world } = setup()
    await watchdog('w1').start()
    see(deadOf(), 1)
    see(seenOf(beatOf({ supervisor: 'b' })), 0)
    await pass(10_000)
    world.reads.length = 0
    await pass(3000)
    const readsOf = (name: string) => world.reads.filter((names) => names.includes(name)).length
    expect(readsOf('a')).toBeLessThanOrEqual(4)
    expect(readsOf('b')).toBeGreaterThan(12)
  })

  it('A14 a stop waits for the cycle in flight, and nothing runs after it; stopped twice it ends clean', async () => {
    const { watchdog, pass, world } = setup()
    const loop = watchdog('w1')
    await loop.start()
    await pass(1000)
    let answer: () => void = () => undefined
    world.answer = (look) =>
      new Promise((resolve) => {
        answer = () => resolve(look)
      })
    await pass(300)
    let stopped = false
    const both = Promise.all([loop.stop(), loop.stop()]).then(() => {
      stopped = true
    })
    await pass(100)
    expect(stopped).toBe(false)
    answer()
    await both
    const { looks } = world
    await pass(5000)
    expect(world.looks).toBe(looks)
  })
})
