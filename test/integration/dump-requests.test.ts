/** Dumps asked for through Redis, by the library and the command line, of a supervisor whose sentinel is played. */
import { Redis } from 'ioredis'
import { describe, expect, it, onTestFinished } from 'vitest'
import { Dispatcher } from '../../src/dispatcher.js'
import { isRefusal, UserError } from '../../src/kernel/errors.js'
import { parseConfig } from '../../src/platform/config-parse.js'
import { fleetKeys } from '../../src/platform/redis-keys.js'
import type { Dump } from '../../src/stackdump/dump.js'
import { type DumpOrder, dumpOrderIn } from '../../src/stackdump/dump-request.js'
import { onWake } from '../../src/stackdump/redis-dump-requests.js'
import { saveDumps } from '../../src/stackdump/redis-dumps.js'
import { beatOf, threadOf } from '../support/beats.js'
import { cli } from '../support/cli.js'
import { dumpOf } from '../support/dumps.js'
import { startFakeSupervisor } from '../support/fake-supervisor.js'
import { startTestRedis } from '../support/redis.js'

const KEYS = fleetKeys('{unstuck}')
const THREADS = [threadOf({ number: 1 }), threadOf({ number: 2 })]
const BEAT = beatOf({ dumps: true, threads: THREADS })

type Reply = { readonly dumps?: readonly Dump[]; readonly refused?: string } | 'silence'

interface Scene {
  readonly reply?: (order: DumpOrder) => Reply
  readonly beat?: typeof BEAT
  readonly everyMs?: number
}

async function setup({ reply = () => ({ dumps: [dumpOf()] }), beat = BEAT, everyMs = 60_000 }: Scene = {}) {
  const server = await startTestRedis()
  const [redis, subscriber] = [new Redis(server.url), new Redis(server.url)]
  const dispatcher = new Dispatcher(parseConfig({ redis: { url: server.url } }, { baseDir: '/', handlersMustExist: false }))
  const orders: DumpOrder[] = []
  const onOrder = (text: string) => {
    const order = dumpOrderIn(JSON.parse(text) as Record<string, unknown>)
    if (!order) return
    orders.push(order)
    const said = reply(order)
    if (said === 'silence') return
    const { dumps = [], refused } = said
    const told = dumps.map((dump) => ({ id: dump.id, class: dump.class }))
    const answer = { request: order.request, dumps: told, ...(refused === undefined ? {} : { refused }) }
    void saveDumps(redis, KEYS, 'a', answer, dumps)
  }
  // It beats only when it is woken: within a test, an order that wakes nobody is never obeyed.
  const supervisor = await startFakeSupervisor(redis, { first: beat, timeoutMs: 120_000, everyMs, onOrder })
  await onWake(subscriber, KEYS, 'a', () => void supervisor.kick())
  onTestFinished(async () => {
    supervisor.stopBeating()
    await dispatcher.close()
    redis.disconnect()
    subscriber.disconnect()
    await server.stop()
  })
  const run = (...args: string[]) => cli(['dump', ...args], { env: { REDIS_URL: server.url }, cwd: '/' })
  return { redis, dispatcher, orders, run }
}

async function refusal(call: Promise<unknown>): Promise<{ code: string; message: string; refused: boolean }> {
  const error = await call.then(
    () => expect.unreachable('was not refused'),
    (thrown: unknown) => thrown,
  )
  if (!(error instanceof UserError)) throw error
  return { code: error.code, message: error.message, refused: isRefusal(error.code) }
}

describe('Dispatcher.dump', () => {
  it('wakes the supervisor, and gives what it kept; readDump gives it again', async () => {
    const dumps = [dumpOf(), dumpOf({ id: 'd-2', subject: 'main', class: 'parked' })]
    const { dispatcher, orders, redis } = await setup({ reply: () => ({ dumps }) })
    expect(await dispatcher.dump('a')).toEqual(dumps)
    expect(await dispatcher.dump('a', { thread: 'img:2', deep: true })).toEqual(dumps)
    expect(await dispatcher.dump('a', { thread: 'main' })).toEqual(dumps)
    const request = expect.stringMatching(/^[\da-f-]{36}$/)
    expect(orders).toEqual([
      { kind: 'dump', request, targets: 'all' },
      { kind: 'dump', request, targets: [{ queue: 'img', thread: 2 }], deep: true },
      { kind: 'dump', request, targets: ['main'] },
    ])
    expect(new Set(orders.map((order) => order.request)).size).toBe(3)
    expect(await dispatcher.readDump('d-2')).toEqual(dumps[1])
    expect(await dispatcher.readDump('d-3')).toBeUndefined()
    expect(await redis.llen(KEYS.orders('a'))).toBe(0)
  })

  it('asks nothing of a thread that is not there, and names those that are', async () => {
    const { dispatcher, orders } = await setup()
    expect(await refusal(dispatcher.dump('a', { thread: 'img:3' }))).toEqual({
      code: 'THREAD_UNKNOWN',
      message: 'supervisor:a: it has no thread img:3; it has main, img:1 to img:2',
      refused: true,
    })
    expect(await refusal(dispatcher.dump('a', { thread: 'img' }))).toMatchObject({ code: 'INPUT_INVALID', refused: false })
    expect(orders).toEqual([])
  })

  it('refuses a supervisor that nobody knows, that is stopped or dead, or that takes none', async () => {
    const { dispatcher, redis } = await setup()
    expect(await refusal(dispatcher.dump('b'))).toMatchObject({
      code: 'SUPERVISOR_UNKNOWN',
      message: expect.stringContaining('running: a'),
    })
    await redis.hset(KEYS.beat('a'), 'bye', '1')
    expect(await refusal(dispatcher.dump('a'))).toMatchObject({
      code: 'SUPERVISOR_GONE',
      message: 'supervisor:a: it is stopped; there is nothing to dump',
    })
    await redis.hdel(KEYS.beat('a'), 'bye')
    await redis.hset(KEYS.beat('a'), 'deadAt', '1')
    expect((await refusal(dispatcher.dump('a'))).message).toBe(
      'supervisor:a: it is dead; there is nothing to dump, unless `unstuck dump --local a` on its host finds it',
    )
    const { dumps: _, ...older } = BEAT
    const old = await setup({ beat: older })
    expect(await refusal(old.dispatcher.dump('a'))).toMatchObject({
      code: 'DUMP_REFUSED',
      message: 'supervisor:a: it takes no stack dumps; it is of version 0.0.0; start it again with this one',
      refused: true,
    })
    expect(old.orders).toEqual([])
  })

  it('passes on why there is none, and a thread that has gone meanwhile', async () => {
    const { dispatcher } = await setup({ reply: () => ({ refused: 'no such thread' }) })
    expect(await refusal(dispatcher.dump('a'))).toMatchObject({
      code: 'DUMP_REFUSED',
      message: 'supervisor:a: it gave no dump (no such thread); try again later',
    })
    expect(await refusal(dispatcher.dump('a', { thread: 'img:2' }))).toMatchObject({ code: 'THREAD_UNKNOWN', refused: true })
  })

  it('gives up after 5 s, and says where to ask then', async () => {
    const { dispatcher } = await setup({ reply: () => 'silence' })
    const before = performance.now()
    expect(await refusal(dispatcher.dump('a'))).toEqual({
      code: 'SENTINEL_UNREACHABLE',
      message: 'supervisor:a: no dump within 5 s; run `unstuck dump --local a` on its host, host',
      refused: false,
    })
    expect(performance.now() - before).toBeGreaterThan(4900)
  })
})

describe('unstuck dump', () => {
  it('prints the stacks, and one that was kept by its id', async () => {
    const { run } = await setup()
    const shown = await run('a', '--thread', 'img:1')
    expect(shown).toMatchObject({ code: 0, stderr: '' })
    expect(shown.stdout).toMatch(/^a, thread 1 of img: running JavaScript\n {2}dump d-1, .+\n {2}stack:\n {4}at charge \(/)
    expect((await run('--id', 'd-1')).stdout).toBe(shown.stdout)
    expect(JSON.parse((await run('a', '--json')).stdout)).toEqual([dumpOf()])
    expect(JSON.parse((await run('--id', 'd-1', '--json')).stdout)).toEqual(dumpOf())
  })

  it('exits with 1 for what is not there, and with 2 for what cannot be asked', async () => {
    const { run } = await setup()
    const mistakes: readonly (readonly [number, RegExp, ...string[]])[] = [
      [1, /dump:d-9: there is none of this id; they are kept for a day/, '--id', 'd-9'],
      [1, /it has no thread img:7; it has main/, 'a', '--thread', 'img:7'],
      [1, /supervisor:b: there is none of this name/, 'b'],
      [2, /thread "img": names none; write main, or QUEUE:N/, 'a', '--thread', 'img'],
      [2, /of which supervisor\?/],
      [2, /cannot stand beside --id/, 'a', '--id', 'd-1'],
    ]
    for (const [code, says, ...args] of mistakes) {
      const shown = await run(...args)
      expect(shown).toMatchObject({ code, stdout: '' })
      expect(shown.stderr).toMatch(says)
      expect(shown.stderr).toMatch(/^unstuck: [^\n]+\n$/)
    }
  })
})
