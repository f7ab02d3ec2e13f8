/**
 * Claim, heartbeat, failure, reset, cancel, redelivery and completion of one job, from two clients at once, against a
 * model: whatever interleaving Redis saw, the end state is one that some order of whole steps allows.
 */

import { type Job, Queue, UnrecoverableError, Worker } from 'bullmq'
import fc from 'fast-check'
import { Redis } from 'ioredis'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { cancelJob } from '../../src/dispatch/bullmq-cancel.js'
import { REAP } from '../../src/dispatch/bullmq-scripts.js'
import { type Claim, Ledger } from '../../src/dispatch/ledger.js'
import { redisAttempts } from '../../src/dispatch/redis-attempts.js'
import { queueKeys } from '../../src/platform/redis-keys.js'
import { resetJob } from '../../src/recovery/redis-resets.js'
import { startTestRedis, type TestRedis } from '../support/redis.js'

const QUEUE = 'mail'
const ID = 'job'
const MAX = 3
const k = queueKeys('bull', QUEUE)
const POLICY = {
  ...{ backoffMs: [3_600_000], jitter: 0, cooldownMs: 3_600_000, maxResets: 2, slowRetryMs: 7_200_000, parkMs: 3_600_000 },
}

const STEPS = ['claim', 'prove', 'fail', 'complete', 'reset', 'cancel', 'reap', 'promote'] as const
type Step = (typeof STEPS)[number]
type Who = 'a' | 'b'

// ---- the model: every step is one move, but for a job that is cancelled while it waits, or claimed with a failure that was
// deferred: those are taken first, and then ended

interface State {
  readonly place: 'waiting' | 'delayed' | 'active' | 'completed' | 'exhausted' | 'taken' | 'cancelled'
  readonly made: number
  readonly resets: number
  /** Who holds the current claim; undefined while nobody does. */
  readonly holder: Who | undefined
  readonly marked: boolean
  /** Its failure is deferred to its next claim. */
  readonly doomed: boolean
}

const START: State = { place: 'waiting', made: 0, resets: 0, holder: undefined, marked: false, doomed: false }

function step(state: State, who: Who, what: Move): State {
  const { place, made, resets, marked, doomed } = state
  const mine = place === 'active' && state.holder === who
  switch (what) {
    case 'claim':
      return place === 'waiting' ? { ...state, place: 'active', holder: who } : state
    case 'deferred':
      if (!mine || !doomed) return state
      return { ...state, place: marked ? 'cancelled' : 'exhausted', made: made + 1, doomed: false, holder: undefined }
    case 'prove':
      if (!mine || marked || made === 0 || resets >= POLICY.maxResets) return state
      return { ...state, made: 0, resets: resets + 1 }
    case 'fail':
      if (!mine) return state
      return {
        ...state,
        holder: undefined,
        made: made + 1,
        place: marked ? 'cancelled' : made + 1 >= MAX ? 'exhausted' : 'delayed',
      }
    case 'complete':
      return mine ? { ...state, place: 'completed', holder: undefined, made: made + 1 } : state
    case 'reset':
      if (place === 'active' || place === 'completed' || place === 'taken') return state
      if (place === 'waiting' || place === 'delayed') {
        return made === 0 && !doomed ? state : { ...state, made: 0, resets: 0, marked: false, doomed: false }
      }
      return { ...START, place: 'delayed' }
    case 'cancel':
      if (place === 'active') return { ...state, marked: true }
      if (place === 'exhausted') return { ...state, place: 'cancelled' }
      if (place === 'waiting' || place === 'delayed') return { ...state, place: 'taken', holder: who, doomed: false }
      return state
    case 'cancelled':
      return place === 'taken' && state.holder === who ? { ...state, place: 'cancelled', holder: undefined } : state
    case 'reap':
      if (place !== 'active') return state
      if (marked || made + 1 >= MAX) return { ...state, place: 'waiting', holder: undefined, doomed: true }
      return { ...state, place: 'waiting', holder: undefined, made: made + 1 }
    case 'promote':
      return place === 'delayed' ? { ...state, place: 'waiting' } : state
  }
}

const shown = ({ place, made, resets }: State) => `${place} made ${made} resets ${resets}`

type Move = Step | 'deferred' | 'cancelled'

const SECOND: Partial<Record<Step, Move>> = { claim: 'deferred', cancel: 'cancelled' }

function movesOf(steps: readonly Step[]): Move[] {
  return steps.flatMap((one) => [one, SECOND[one] ?? []].flat())
}

/** Every end that an order of the two sequences allows. */
function ends(state: State, a: readonly Move[], b: readonly Move[]): Set<string> {
  if (a.length === 0 && b.length === 0) return new Set([shown(state)])
  const found = new Set<string>()
  const [nextA, ...restA] = a
  const [nextB, ...restB] = b
  if (nextA) for (const end of ends(step(state, 'a', nextA), restA, b)) found.add(end)
  if (nextB) for (const end of ends(step(state, 'b', nextB), a, restB)) found.add(end)
  return found
}

// ---- the real thing

interface Client {
  run(what: Step): Promise<void>
  forget(): void
  close(): Promise<void>
}

function client(url: string, who: Who): Client {
  const owner = `${who}#0123456789ab`
  const redis = new Redis(url)
  const connection = { url, maxRetriesPerRequest: null }
  const queue = new Queue(QUEUE, { connection })
  const worker = new Worker(QUEUE, async () => undefined, { connection, name: owner, skipStalledCheck: true, autorun: false })
  worker.on('error', () => undefined)
  const records = redisAttempts({
    ...{ redis: async () => redis, keys: k, owner, attemptsMax: MAX, maxResets: POLICY.maxResets, settings: 'f00d' },
    breaker: { failures: 1000, probeMs: 1000 },
  })
  const nothing = () => undefined
  const events = {
    ...{ exhausted: nothing, poison: nothing, breakerOpened: nothing, breakerClosed: nothing, reset: nothing },
    error: (error: unknown) => {
      throw error
    },
  }
  const ledger = new Ledger({ records, policy: POLICY, events })
  let held: (Claim & { readonly job: Job }) | undefined
  let tokens = 0

  const claim = async () => {
    tokens += 1
    const token = `${who}-${tokens}`
    const job = (await worker.getNextJob(token, { block: false })) as Job | undefined
    if (!job) return
    const own = { id: ID, token, fence: job.attemptsStarted, group: undefined, job }
    if (!job.deferredFailure) {
      held = own
      return
    }
    const kind = await ledger.deferred(own, new Error(job.deferredFailure))
    if (kind !== undefined) await moved(job.moveToFailed(new UnrecoverableError('deferred'), token, false))
  }
  const fail = async () => {
    if (!held) return
    const { job, token } = held
    const verdict = await ledger.settle(held, { kind: 'transient', error: new Error('no') })
    if (!verdict) return
    job.attemptsMade = verdict.counters.attemptsMade
    const error = verdict.decision.verb === 'retry' ? new Error('no') : new UnrecoverableError('no')
    await moved(job.moveToFailed(error, token, false))
  }
  const reap = async () => {
    const [pb, ats] = await redis.hmget(k.job(ID), 'pb', 'ats')
    await REAP.run(redis, [k.root], [ID, pb ?? '', ats ?? '', 'lost', MAX, pb ? 'any' : 'none', 0])
  }
  const steps: Record<Step, () => Promise<unknown>> = {
    claim,
    fail,
    reap,
    prove: async () => held && ledger.proven(held),
    complete: async () => held && moved(held.job.moveToCompleted(1, held.token, false)),
    reset: () => resetJob(redis, k, { id: ID, by: 'hand', actor: who, perSecond: 1000 }),
    cancel: () => cancelJob(redis, queue, k, { id: ID, actor: who }),
    promote: async () => {
      const [, delayed] = await Promise.all([queue.waitUntilReady(), queue.getJob(ID)])
      await moved(delayed?.promote() ?? Promise.resolve())
    },
  }
  return {
    run: async (what) => void (await steps[what]()),
    forget: () => {
      held = undefined
    },
    close: async () => {
      await Promise.all([worker.close(true), queue.close()])
      redis.disconnect()
    },
  }
}

/** BullMQ refuses a verb on a job that somebody moved meanwhile: that is the other order. */
async function moved(verb: Promise<unknown>): Promise<void> {
  await verb.catch((error: unknown) => {
    if (!(error instanceof Error && 'code' in error)) throw error
  })
}

async function seen(redis: Redis): Promise<string> {
  const f = await redis.hmget(k.job(ID), 'atm', 'unstuck:resets', 'unstuck:kind')
  const sets = await Promise.all([
    redis.zscore(k.completed, ID),
    redis.zscore(k.failed, ID),
    redis.zscore(k.delayed, ID),
    redis.lpos(k.active, ID),
    redis.lpos(k.wait, ID),
  ])
  const places = ['completed', f[2] ?? 'failed', 'delayed', 'active', 'waiting'].filter((_, index) => sets[index] !== null)
  return `${places.join('+')} made ${Number(f[0] ?? 0)} resets ${Number(f[1] ?? 0)}`
}

describe('serial truth', () => {
  let server: TestRedis
  let redis: Redis
  let queue: Queue
  let a: Client
  let b: Client
  beforeAll(async () => {
    server = await startTestRedis()
    redis = new Redis(server.url)
    queue = new Queue(QUEUE, { connection: { url: server.url } })
    a = client(server.url, 'a')
    b = client(server.url, 'b')
  })
  afterAll(async () => {
    await Promise.all([a.close(), b.close(), queue.close()])
    redis.disconnect()
    await server.stop()
  })

  async function run(one: Client, steps: readonly Step[]): Promise<void> {
    for (const what of steps) await one.run(what)
  }

  it('C8 any interleaving of two clients ends as some order of their steps does, and the count shown is the count in BullMQ', async () => {
    const some = fc.array(fc.constantFrom(...STEPS), { maxLength: 4 })
    const first = fc.array(fc.constantFrom<Step>('claim', 'fail', 'promote', 'prove'), { maxLength: 6 })
    await fc.assert(
      fc.asyncProperty(first, some, some, async (before, left, right) => {
        await redis.flushall()
        // The pace has no free moment for an hour: what is reset is not due by itself in between.
        const [seconds] = await redis.time()
        await redis.set(k.release, `${Number(seconds) * 1000 + 3_600_000} ${Number(seconds) * 1000}`)
        a.forget()
        b.forget()
        await queue.add('m', {}, { jobId: ID, attempts: MAX, backoff: { type: 'fixed', delay: 3_600_000 } })
        await run(a, before)
        const state = movesOf(before).reduce((now, what) => step(now, 'a', what), START)
        expect(await seen(redis)).toBe(shown(state))
        await Promise.all([run(a, left), run(b, right)])
        expect(ends(state, movesOf(left), movesOf(right))).toContain(await seen(redis))
      }),
      { numRuns: 2000 },
    )
  }, 240_000)
})
