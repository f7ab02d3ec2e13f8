/**
 * What a person orders of queues, jobs and supervisors: reset, cancel, pause, resume, drain. It decides nothing about a
 * job (the scripts do, in one step with the change) and obeys or refuses; every change leaves an audit entry with who
 * and why.
 */
import type { Redis } from 'ioredis'
import { cancelJob } from '../dispatch/bullmq-cancel.js'
import type { QueueHandles } from '../dispatch/bullmq-handles.js'
import { couldBeJobId } from '../dispatch/job-input.js'
import { readJobPlace } from '../dispatch/redis-job-place.js'
import { readBeats } from '../heartbeat/redis-heartbeats.js'
import { sendOrder } from '../heartbeat/redis-orders.js'
import type { SeenBeat } from '../heartbeat/seen-beat.js'
import { fleetKeys, queueKeys } from '../platform/redis-keys.js'
import { parseOwner } from './orphan-policy.js'
import { writeAudit } from './redis-audit.js'
import { orderBulkReset, resetJob } from './redis-resets.js'
import {
  cancelRefused,
  checkSignature,
  jobUnknown,
  queueUnknown,
  resetOutcomeOf,
  resetRefused,
  type Signature,
  supervisorGone,
  supervisorUnknown,
} from './refusals.js'

export interface OrderOptions {
  /** Why: at most 500 characters, kept in the audit. */
  readonly reason?: string
  /** Who asks. Default: `library`. */
  readonly actor?: string
  /** Says what would happen, or refuses, and changes nothing. */
  readonly dryRun?: boolean
}

export interface BulkResetOptions extends OrderOptions {
  /** Only jobs of this group; an empty text means those without one. */
  readonly group?: string
  /** Those that failed for good too. */
  readonly permanent?: boolean
}

export interface JobReset {
  /** What the counter stood at. */
  readonly attemptsBefore: number
  /** Until it may run, at the queue's pace; unknown in a dry run. */
  readonly runsInMs?: number
}

export interface BulkReset {
  /** How many are looked at; of a group, those of other groups are among them and left alone. */
  readonly jobs: number
  readonly perSecond: number
}

export interface JobCancelled {
  /** `stopping`: it runs, and its supervisor was told. `marked`: whoever ran it is gone; it ends when it is taken back. */
  readonly state: 'cancelled' | 'stopping' | 'marked'
  /** Stopping: who runs it. */
  readonly supervisor?: string
}

export interface ControlOptions {
  readonly redis: Redis
  readonly prefix: string
  readonly bullPrefix: string
  readonly queues: QueueHandles
  /** The configured queues. */
  readonly configured: readonly string[]
  /** Pace at which jobs of a queue are put back. */
  readonly perSecondOf: (queue: string) => number
}

export class Control {
  readonly #options: ControlOptions

  constructor(options: ControlOptions) {
    this.#options = options
  }

  /** @throws UserError JOB_* when there is nothing to reset, QUEUE_UNKNOWN, INPUT_INVALID */
  async reset(queue: string, id: string, options: OrderOptions = {}): Promise<JobReset> {
    const signature = checkSignature(options)
    await this.checkQueue(queue)
    if (!couldBeJobId(id)) throw await this.unknownJob(queue, id)
    const { redis, perSecondOf } = this.#options
    const order = { id, by: 'hand' as const, ...signature, perSecond: perSecondOf(queue) }
    const answer = options.dryRun ? await this.#foresee(queue, id) : await resetJob(redis, this.#keys(queue), order)
    if (answer.outcome === 'unknown') throw await this.unknownJob(queue, id)
    if (answer.outcome !== 'reset') throw resetRefused(queue, id, answer.outcome)
    const { outcome: _, ...done } = answer
    return done
  }

  /** Puts every exhausted job of the queue back, at its pace. Returns when that is ordered, not when it is done. */
  async resetAll(queue: string, options: BulkResetOptions = {}): Promise<BulkReset> {
    const { group, permanent = false, dryRun = false } = options
    const signature = checkSignature(options)
    await this.checkQueue(queue)
    const { redis, perSecondOf } = this.#options
    const keys = this.#keys(queue)
    const perSecond = perSecondOf(queue)
    if (dryRun) {
      const counts = await Promise.all([redis.zcard(keys.exhausted), permanent ? redis.zcard(keys.permanent) : 0])
      return { jobs: counts[0] + counts[1], perSecond }
    }
    const order = { by: 'hand' as const, ...(group === undefined ? {} : { group }), permanent, ...signature }
    return { jobs: (await orderBulkReset(redis, keys, order)).jobs, perSecond }
  }

  /** @throws UserError JOB_* when it cannot be cancelled, QUEUE_UNKNOWN, INPUT_INVALID */
  async cancel(queue: string, id: string, options: OrderOptions = {}): Promise<JobCancelled> {
    const { dryRun = false } = options
    const signature = checkSignature(options)
    await this.checkQueue(queue)
    if (!couldBeJobId(id)) throw await this.unknownJob(queue, id)
    const { redis, queues } = this.#options
    const answer = await cancelJob(redis, queues.open(queue), this.#keys(queue), { id, ...signature, dryRun })
    if (answer.outcome === 'cancelled') return { state: 'cancelled' }
    if (answer.outcome === 'unknown') throw await this.unknownJob(queue, id)
    if (answer.outcome !== 'running') throw cancelRefused(queue, id, answer)
    return this.#stop(queue, id, answer, dryRun)
  }

  /** @returns whether that changed anything */
  async pause(queue: string, options: OrderOptions = {}): Promise<boolean> {
    return this.#hold(queue, 'pause', options)
  }

  async resume(queue: string, options: OrderOptions = {}): Promise<boolean> {
    return this.#hold(queue, 'resume', options)
  }

  /** Tells a supervisor to take no more, finish and leave. @returns how many jobs it runs now */
  async drain(supervisor: string, { dryRun = false }: Pick<OrderOptions, 'dryRun'> = {}): Promise<number> {
    const seen = await this.living(supervisor, 'drain')
    const { redis, prefix } = this.#options
    if (!dryRun) await sendOrder(redis, fleetKeys(prefix), seen, { kind: 'drain' })
    return seen.beat?.jobs.length ?? 0
  }

  /**
   * @param to what it is wanted for
   * @throws UserError SUPERVISOR_UNKNOWN, SUPERVISOR_GONE
   */
  async living(supervisor: string, to: 'drain' | 'dump'): Promise<SeenBeat & { readonly incarnation: string }> {
    const seen = await this.#beatOf(supervisor)
    const incarnation = seen?.incarnation
    if (!seen || incarnation === undefined) throw supervisorUnknown(supervisor, await this.#live())
    if (seen.bye) throw supervisorGone(supervisor, 'stopped', to)
    if (seen.overdueMs > 0) throw supervisorGone(supervisor, 'dead', to)
    return { ...seen, incarnation }
  }

  /** @throws UserError QUEUE_UNKNOWN for one that no config names and Redis has never seen */
  async checkQueue(queue: string): Promise<void> {
    const { redis, configured } = this.#options
    if (configured.includes(queue)) return
    const [known, seen] = await Promise.all([this.#knownQueues(), redis.exists(this.#keys(queue).meta)])
    if (seen === 0 && !known.includes(queue)) throw queueUnknown(queue, known)
  }

  async unknownJob(queue: string, id: string): Promise<Error> {
    if (!couldBeJobId(id)) return jobUnknown(queue, id)
    const { redis, bullPrefix } = this.#options
    const others = (await this.#knownQueues()).filter((other) => other !== queue)
    const places = await Promise.all(others.map((other) => readJobPlace(redis, bullPrefix, other, id)))
    return jobUnknown(
      queue,
      id,
      others.filter((_, index) => places[index]?.state !== 'not_found'),
    )
  }

  async #foresee(queue: string, id: string) {
    const place = await readJobPlace(this.#options.redis, this.#options.bullPrefix, queue, id)
    const outcome = resetOutcomeOf(place)
    return outcome === 'reset' ? { outcome, attemptsBefore: place.attemptsMade } : { outcome }
  }

  /** The job is marked; its supervisor need not wait for the next claim to know. */
  async #stop(queue: string, jobId: string, running: { owner: string; fence: number }, dryRun: boolean): Promise<JobCancelled> {
    const owner = parseOwner(running.owner)
    const seen = owner ? await this.#beatOf(owner.supervisor) : undefined
    const isThere = owner && seen?.incarnation === owner.incarnation && !seen.bye && seen.overdueMs <= 0
    if (!isThere) return { state: 'marked' }
    const { redis, prefix } = this.#options
    const order = { kind: 'cancel' as const, queue, jobId, fence: running.fence }
    if (!dryRun) await sendOrder(redis, fleetKeys(prefix), owner, order)
    return { state: 'stopping', supervisor: owner.supervisor }
  }

  async #hold(queue: string, action: 'pause' | 'resume', options: OrderOptions): Promise<boolean> {
    const signature = checkSignature(options)
    await this.checkQueue(queue)
    const { redis, queues } = this.#options
    const isPaused = (await redis.hexists(this.#keys(queue).meta, 'paused')) === 1
    if (isPaused === (action === 'pause')) return false
    if (options.dryRun) return true
    const handle = queues.open(queue)
    await (action === 'pause' ? handle.pause() : handle.resume())
    await this.#audit(queue, action, signature)
    return true
  }

  async #audit(queue: string, action: string, signature: Signature): Promise<void> {
    await writeAudit(this.#options.redis, this.#keys(queue), { action, by: 'hand', ...signature })
  }

  async #beatOf(supervisor: string): Promise<SeenBeat | undefined> {
    const [seen] = await readBeats(this.#options.redis, fleetKeys(this.#options.prefix), [supervisor])
    return seen
  }

  async #live(): Promise<string[]> {
    const { redis, prefix } = this.#options
    const keys = fleetKeys(prefix)
    const seen = await readBeats(redis, keys, (await redis.zrange(keys.due, '0', '-1')).slice(0, SHOWN_SUPERVISORS))
    return seen.filter(({ bye, overdueMs, incarnation }) => !bye && overdueMs <= 0 && incarnation).map((one) => one.supervisor)
  }

  async #knownQueues(): Promise<string[]> {
    const { redis, prefix, configured } = this.#options
    return [...new Set([...configured, ...(await redis.smembers(fleetKeys(prefix).queues))])]
  }

  #keys(queue: string) {
    return queueKeys(this.#options.bullPrefix, queue)
  }
}

/** More names than this help nobody who mistyped one. */
const SHOWN_SUPERVISORS = 20
