/** The real sentinel thread in real processes, on a real Redis. Needs `dist/`. */
import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { Redis } from 'ioredis'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { readOrder } from '../../src/heartbeat/orders.js'
import { readBeats, redisBeatWriter } from '../../src/heartbeat/redis-heartbeats.js'
import { sendOrder } from '../../src/heartbeat/redis-orders.js'
import type { SeenBeat } from '../../src/heartbeat/seen-beat.js'
import type { SupervisorOrder } from '../../src/heartbeat/sentinel-protocol.js'
import { connectRedis } from '../../src/platform/redis.js'
import { fleetKeys } from '../../src/platform/redis-keys.js'
import { redisIncidents } from '../../src/watchdog/redis-incidents.js'
import { startTestRedis, type TestRedis } from '../support/redis.js'

const FIXTURE = fileURLToPath(new URL('../fixtures/sentinel-process.mjs', import.meta.url))
const keys = fleetKeys('{unstuck}')
const TIMES = { intervalMs: 200, timeoutMs: 1500, loopBlockedMs: 400 }

type Said = { readonly event: string; readonly [field: string]: unknown }

class SentinelProcess {
  readonly child: ChildProcess
  readonly said: Said[] = []
  readonly #waiting = new Set<() => void>()
  readonly exit: Promise<number | null>

  constructor(redisUrl: string, supervisor: string, incarnation: string) {
    const options = JSON.stringify({ redisUrl, supervisor, incarnation, ...TIMES })
    this.child = spawn(process.execPath, [FIXTURE, options], { stdio: ['pipe', 'pipe', 'inherit'] })
    this.exit = new Promise((resolve) => this.child.once('exit', resolve))
    if (this.child.stdout) {
      createInterface({ input: this.child.stdout }).on('line', (line) => {
        this.said.push(JSON.parse(line) as Said)
        for (const wake of this.#waiting) wake()
      })
    }
  }

  do(command: string): void {
    this.child.stdin?.write(`${command}\n`)
  }

  /** The first message of this kind, now or when it comes. */
  async heard(event: string): Promise<Said> {
    for (;;) {
      const found = this.said.find((one) => one.event === event)
      if (found) return found
      await new Promise<void>((resolve) => {
        const wake = () => {
          this.#waiting.delete(wake)
          resolve()
        }
        this.#waiting.add(wake)
      })
    }
  }

  async kill(): Promise<void> {
    this.child.kill('SIGKILL')
    await this.exit
  }
}

describe('sentinel thread', () => {
  let server: TestRedis
  let redis: Redis
  const running: SentinelProcess[] = []

  beforeAll(async () => {
    server = await startTestRedis()
    redis = connectRedis(server.url, 'command')
  })
  afterEach(async () => {
    await Promise.all(running.splice(0).map((one) => one.kill()))
    await redis.flushall()
  })
  afterAll(async () => {
    redis.disconnect()
    await server.stop()
  })

  async function start(supervisor: string, incarnation: string): Promise<SentinelProcess> {
    const one = launch(supervisor, incarnation)
    await one.heard('ready')
    return one
  }

  function launch(supervisor: string, incarnation: string): SentinelProcess {
    const one = new SentinelProcess(server.url, supervisor, incarnation)
    running.push(one)
    return one
  }

  /** Reads until it is as expected; the test's own time limit is the bound. */
  async function until(supervisor: string, expected: (seen: SeenBeat) => boolean): Promise<SeenBeat> {
    for (;;) {
      const [seen] = await readBeats(redis, keys, [supervisor])
      if (seen && expected(seen)) return seen
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
  }

  /** Milliseconds until somebody must look at this supervisor, by Redis TIME; undefined: never. */
  async function dueInMs(supervisor: string): Promise<number | undefined> {
    const score = await redis.zscore(keys.due, supervisor)
    const [seconds, micros] = await redis.time()
    return score === null ? undefined : Number(score) - (Number(seconds) * 1000 + Number(micros) / 1000)
  }

  it('A8 while the main thread is blocked the beat goes on and shows it growing, late at once and well again at once', async () => {
    const one = await start('blocked', 'i1')
    const before = await until('blocked', ({ beat }) => beat !== undefined && beat.seq > 1)
    one.do('block 1500')
    const first = await until('blocked', ({ beat }) => (beat?.main.ageMs ?? 0) > TIMES.loopBlockedMs)
    expect(first.beat?.main.ageMs).toBeLessThan(TIMES.loopBlockedMs + 250)
    expect(await dueInMs('blocked')).toBeLessThanOrEqual(0)
    const later = await until('blocked', ({ beat }) => (beat?.main.ageMs ?? 0) > 1000)
    expect(later.beat?.seq).toBeGreaterThan((first.beat?.seq ?? 0) + 1)
    expect(first.beat?.seq).toBeGreaterThan(before.beat?.seq ?? 0)
    await until('blocked', ({ beat }) => (beat?.main.ageMs ?? Number.POSITIVE_INFINITY) < 100)
    expect(await dueInMs('blocked')).toBeGreaterThan(0)
  })

  it('A11 a clean goodbye takes the supervisor out of what falls due', async () => {
    const one = await start('polite', 'i1')
    await until('polite', ({ beat }) => beat !== undefined)
    one.do('goodbye')
    expect(await one.heard('goodbye')).toMatchObject({ said: true })
    expect(await dueInMs('polite')).toBeUndefined()
    const [seen] = await readBeats(redis, keys, ['polite'])
    expect(seen).toMatchObject({ bye: true })
    one.do('exit')
    expect(await one.exit).toBe(0)
  })

  it('A11 killed, it falls due when the timeout is over, and its last beat is still there', async () => {
    const one = await start('killed', 'i1')
    await until('killed', ({ beat }) => beat !== undefined)
    await one.kill()
    const left = await dueInMs('killed')
    expect(left).toBeGreaterThan(0)
    expect(left).toBeLessThanOrEqual(TIMES.timeoutMs)
    const seen = await until('killed', ({ overdueMs }) => overdueMs >= 0)
    expect(seen).toMatchObject({ bye: false, incarnation: 'i1' })
    expect(seen.beat).toBeDefined()
    expect(await dueInMs('killed')).toBeLessThanOrEqual(0)
  })

  it('a second process of the same name is refused while the first lives', async () => {
    const one = await start('name', 'i1')
    const second = launch('name', 'i2')
    expect(await second.heard('refused')).toMatchObject({
      code: 'NAME_TAKEN',
      message: `supervisor name "name" is held by a live process (host test-host, pid ${one.child.pid}); choose another --name or stop that one`,
    })
    expect(await second.exit).toBe(2)
    const seen = await until('name', ({ beat }) => beat !== undefined)
    expect(seen.incarnation).toBe('i1')
  })

  it('A12 after its death the name is taken over, and the dead one’s late beat is refused', async () => {
    const one = await start('heir', 'i1')
    const old = await until('heir', ({ beat }) => beat !== undefined)
    one.child.kill('SIGSTOP')
    await until('heir', ({ overdueMs }) => overdueMs > 0)
    await start('heir', 'i2')
    await until('heir', ({ beat }) => beat?.incarnation === 'i2')
    one.child.kill('SIGCONT')
    await one.heard('replaced')
    const now = await until('heir', () => true)
    expect(now).toMatchObject({ incarnation: 'i2' })
    expect(now.beat?.incarnation).toBe('i2')
    expect(now.generation).toBeGreaterThan(old.generation)
  })

  it('A13 stopped and continued as a whole, it beats on at once and says nothing of its parts', async () => {
    const one = await start('frozen', 'i1')
    await until('frozen', ({ beat }) => beat !== undefined)
    one.child.kill('SIGSTOP')
    const last = await until('frozen', ({ overdueMs }) => overdueMs > 0)
    one.child.kill('SIGCONT')
    const woken = await until('frozen', ({ beat }) => (beat?.seq ?? 0) > (last.beat?.seq ?? 0))
    expect(woken.beat?.main.ageMs).toBeLessThan(TIMES.loopBlockedMs)
    expect(await dueInMs('frozen')).toBeGreaterThan(0)
  })

  it('D10 a thread that never turns is ordered to end, by the very place and generation', async () => {
    const one = await start('hung', 'i1')
    one.do('hang')
    expect(await one.heard('terminate')).toMatchObject({
      queue: 'mail',
      thread: 1,
      generation: 1,
      jobId: 'j1',
      attempt: 1,
      fence: 3,
      cause: 'thread_blocked',
    })
  })

  it('an order reaches the main thread within a beat, also while another incarnation’s lies before it', async () => {
    const one = await start('obedient', 'i1')
    const order = { kind: 'cancel', queue: 'mail', jobId: 'j1', fence: 3 } as const
    await sendOrder(redis, keys, { supervisor: 'obedient', incarnation: 'i0' }, { kind: 'drain' })
    await sendOrder(redis, keys, { supervisor: 'obedient', incarnation: 'i1' }, order)
    const sent = performance.now()
    expect(await one.heard('order')).toEqual({ event: 'order', ...order })
    expect(performance.now() - sent).toBeLessThan(TIMES.intervalMs + 250)
    expect(await one.heard('error')).toMatchObject({ message: 'an order for another incarnation was dropped' })
  })

  it('A7 a store that hangs for a while is found again within a second, and no order was given meanwhile', async () => {
    const one = await start('patient', 'i1')
    const last = await until('patient', ({ beat }) => beat !== undefined)
    server.pause()
    one.do('hang')
    await one.heard('error')
    // That nothing comes can only be waited for: long past the threshold and the two beats that an order needs.
    await new Promise((resolve) => setTimeout(resolve, 1500))
    expect(one.said.filter(({ event }) => event === 'terminate')).toEqual([])
    server.resume()
    const resumed = performance.now()
    await until('patient', ({ beat }) => (beat?.seq ?? 0) > (last.beat?.seq ?? 0) + 3)
    expect(performance.now() - resumed).toBeLessThan(2000)
    await one.heard('terminate')
  })

  it('a sentinel thread that dies is started again and keeps the name', async () => {
    const one = await start('phoenix', 'i1')
    const old = await until('phoenix', ({ beat }) => beat !== undefined)
    one.do('crash')
    await one.heard('error')
    const seen = await until('phoenix', ({ generation, beat }) => generation > old.generation && beat !== undefined)
    expect(seen).toMatchObject({ incarnation: 'i1' })
    one.do('goodbye')
    expect(await one.heard('goodbye')).toMatchObject({ said: true })
  })

  it('the store away at the start is waited for', async () => {
    await server.kill()
    const one = launch('early', 'i1')
    await one.heard('error')
    await server.restart()
    await one.heard('ready')
    await until('early', ({ beat }) => beat !== undefined)
  })
})

describe('beat writer', () => {
  let server: TestRedis
  let redis: Redis

  beforeAll(async () => {
    server = await startTestRedis()
    redis = connectRedis(server.url, 'command')
  })
  afterEach(() => redis.flushall())
  afterAll(async () => {
    redis.disconnect()
    await server.stop()
  })

  const writer = (incarnation: string, who: { supervisor?: string; group?: string; timeoutMs?: number } = {}) =>
    redisBeatWriter(redis, {
      prefix: '{unstuck}',
      supervisor: 's',
      incarnation,
      host: 'h',
      pid: 1,
      timeoutMs: 50,
      queues: [],
      ...who,
    })
  const beatOf = (seq: number) => ({ seq, queues: [], loops: [] }) as never

  it('A12 a beat that bears an older generation is refused, and changes nothing', async () => {
    const old = writer('i1')
    await old.register()
    await old.goodbye()
    const fresh = writer('i2')
    expect(await fresh.register()).toMatchObject({ taken: false })
    const answers = [await fresh.beat(beatOf(1), false, false), await old.beat(beatOf(1), true, false)]
    expect(answers.map(({ accepted }) => accepted)).toEqual([true, false])
    await old.goodbye()
    expect(await readBeats(redis, keys, ['s'])).toMatchObject([{ incarnation: 'i2', bye: false }])
  })

  describe('orders', () => {
    const drain = { kind: 'drain' } as const
    const cancel = { kind: 'cancel', queue: 'mail', jobId: 'odd "id" é', fence: 7 } as const
    const send = (order: SupervisorOrder, incarnation = 'i1') => sendOrder(redis, keys, { supervisor: 's', incarnation }, order)

    it('come back with the next accepted beat, in order and once, and do not lie there for ever', async () => {
      const one = writer('i1')
      await one.register()
      await send(cancel)
      await send(drain)
      expect(await redis.pttl(keys.orders('s'))).toBeGreaterThan(3_500_000)
      const { orders } = await one.beat(beatOf(1), false, false)
      expect(orders.map((text) => readOrder(text, 'i1'))).toEqual([{ order: cancel }, { order: drain }])
      expect(await one.beat(beatOf(2), false, false)).toEqual({ accepted: true, orders: [] })
      expect(await redis.exists(keys.orders('s'))).toBe(0)
    })

    it('a flood is brought back in bounded parts, and nothing of it is lost', async () => {
      const one = writer('i1')
      await one.register()
      for (let fence = 1; fence <= 250; fence += 1) await send({ ...cancel, fence })
      const taken: string[][] = []
      for (let seq = 1; seq <= 4; seq += 1) taken.push([...(await one.beat(beatOf(seq), false, false)).orders])
      expect(taken.map(({ length }) => length)).toEqual([100, 100, 50, 0])
      expect(taken.flat().map((text) => (JSON.parse(text) as { fence: number }).fence)).toEqual(
        Array.from({ length: 250 }, (_, index) => index + 1),
      )
    })

    it('a beat that is refused, or was overtaken, takes none', async () => {
      const one = writer('i1')
      await one.register()
      await one.beat(beatOf(5), false, false)
      await send(drain)
      expect((await one.beat(beatOf(4), false, false)).orders).toEqual([])
      await redis.hset(keys.beat('s'), 'deadAt', 1)
      const heir = writer('i2')
      await heir.register()
      await send(drain, 'i2')
      expect(await one.beat(beatOf(6), false, false)).toEqual({ accepted: false, orders: [] })
      expect((await heir.beat(beatOf(1), false, false)).orders).toHaveLength(1)
    })

    it('of a former incarnation end with a goodbye and with the next registration, not with a sentinel that starts again', async () => {
      const one = writer('i1')
      await one.register()
      await send(drain)
      await one.register()
      expect(await redis.llen(keys.orders('s'))).toBe(1)
      await one.goodbye()
      expect(await redis.exists(keys.orders('s'))).toBe(0)
      await send(drain)
      await writer('i2').register()
      expect(await redis.exists(keys.orders('s'))).toBe(0)
    })
  })

  describe('C9 a registration', () => {
    const incidents = () => redisIncidents(redis, keys)
    const restarts = async () => {
      const { 'died:acme': died = '0', 'back:acme': back = '0' } = await redis.hgetall(keys.restarts)
      return { died: Number(died), back: Number(back) }
    }
    const dies = async (ageMs: number, name = 'old') => {
      const process = { subjectKind: 'process', subject: `supervisor:${name}`, cause: 'process_dead', group: 'acme' } as const
      const seen = { incidentId: name, since: new Date(0).toISOString(), watchdogId: 'w1', count: 1 }
      expect(await incidents().open({ ...process, ...seen, ageMs, thresholdMs: 0 }, 0)).toHaveLength(1)
    }

    it('after a death in its group, under any name, brings the group back, and a second one nothing more', async () => {
      await dies(5000)
      expect(await restarts()).toEqual({ died: 1, back: 0 })
      await writer('i1', { supervisor: 'other', group: 'zeta' }).register()
      await writer('i2', { supervisor: 'bare' }).register()
      expect(await restarts()).toEqual({ died: 1, back: 0 })
      await writer('i3', { supervisor: 'new', group: 'acme' }).register()
      await writer('i4', { supervisor: 'newer', group: 'acme' }).register()
      expect(await restarts()).toEqual({ died: 1, back: 1 })
    })

    it('that came before anybody called the dead one dead counts too, one from before its last beat does not', async () => {
      await writer('i1', { supervisor: 'new', group: 'acme' }).register()
      await dies(5000)
      expect(await restarts()).toEqual({ died: 1, back: 1 })
      await redis.hincrby(keys.restarts, 'registered:acme', -6000)
      await dies(5000, 'another')
      expect(await restarts()).toEqual({ died: 2, back: 1 })
    })

    it('that is refused brings nobody back', async () => {
      await writer('i1', { timeoutMs: 5000 }).register()
      await dies(5000)
      expect(await writer('i2', { group: 'acme', timeoutMs: 5000 }).register()).toMatchObject({ taken: true })
      expect(await restarts()).toEqual({ died: 1, back: 0 })
    })
  })
})
