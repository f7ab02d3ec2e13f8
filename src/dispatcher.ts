/**
 * The library face: what an application, and our own command line, asks of a fleet. It adds jobs and reads; it runs
 * none, and judges nothing. Every call ends in bounded time: a producer must not hang because Redis does.
 */
import type { Redis } from 'ioredis'
import { QueueHandles } from './dispatch/bullmq-handles.js'
import { QueueWriter } from './dispatch/bullmq-queue.js'
import { type Carrier, type ExplainInput, type Explanation, explain, type JobInfo } from './dispatch/explain.js'
import type { JobInput } from './dispatch/job-input.js'
import { type JobListOptions, type JobPage, type ListedJob, listJobs } from './dispatch/job-list.js'
import { readJobSlices } from './dispatch/redis-job-list.js'
import { readJobPlace } from './dispatch/redis-job-place.js'
import { problemsOf, type WatchdogPresence } from './http/problems.js'
import { type FleetView, type ReadModel, readModel } from './http/read-model.js'
import { redisFleetSource } from './http/redis-fleet-source.js'
import { readWatchdogs } from './http/redis-watchdogs.js'
import { UserError } from './kernel/errors.js'
import { TIMED_OUT, within } from './kernel/within.js'
import type { Config } from './platform/config.js'
import { loadConfig } from './platform/config-load.js'
import { queueNameProblem } from './platform/config-parse.js'
import type { ConfigInput } from './platform/config-schema.js'
import { openTracing } from './platform/otel-tracer.js'
import { policyOf } from './platform/queue-policy.js'
import { checkRedis, connectRedis, redactUrl } from './platform/redis.js'
import { type FleetKeys, fleetKeys } from './platform/redis-keys.js'
import { systemClock } from './platform/system-clock.js'
import {
  type BulkReset,
  type BulkResetOptions,
  Control,
  type JobCancelled,
  type JobReset,
  type OrderOptions,
} from './recovery/bullmq-control.js'
import type { Dump } from './stackdump/dump.js'
import { targetsNamed } from './stackdump/dump-target.js'
import { callForDumps, type DumpOptions, dumpLimitMs } from './stackdump/redis-dump-calls.js'
import { readDump } from './stackdump/redis-dumps.js'
import type { Transition } from './watchdog/incident.js'
import { redisIncidents } from './watchdog/redis-incidents.js'

/** How long one exchange with Redis may take before it is given up, milliseconds. */
const CALL_LIMIT_MS = 10_000
/** How long Redis may take to answer at first, milliseconds. */
const CONNECT_LIMIT_MS = 5000

export interface FleetStatus extends FleetView {
  readonly watchdogs: readonly WatchdogPresence[]
  /** Everything that is wrong, one sentence each; empty when nothing is. */
  readonly problems: readonly string[]
}

/** What `add` takes beside the data. */
export type AddOptions = Omit<JobInput, 'data'>

export interface AddBulkOptions {
  /** Names a job in an error. Default: `job 3`. */
  readonly where?: (index: number) => string
  /** Told how many are in Redis. */
  readonly onProgress?: (added: number) => void
}

/** For a program that has parts of its own, and little time. */
export interface DispatcherParts {
  /** Default: the fleet is read afresh for each call. */
  readonly readModel?: ReadModel
  /** How long one exchange with Redis may take, milliseconds. Default: 10 000. */
  readonly callLimitMs?: number
  /** Asks Redis for a sign of life before each call, and gives up when none comes in so many milliseconds. Default: does not ask. */
  readonly probeLimitMs?: number
}

export class Dispatcher {
  readonly #config: Config
  readonly #parts: DispatcherParts
  readonly #keys: FleetKeys
  readonly #redis: Redis
  readonly #queues: QueueHandles
  readonly #writer: QueueWriter
  readonly #control: Control
  #checked: Promise<void> | undefined
  #pinged: Promise<unknown> | undefined

  /**
   * Opens a connection and waits for nothing; most programs use `connect`.
   * @param config what `loadConfig` gave
   * @throws UserError REDIS_MISSING when no address is configured
   */
  constructor(config: Config, parts: DispatcherParts = {}) {
    const { url, bullPrefix } = config.redis
    if (url === undefined)
      throw new UserError('REDIS_MISSING', 'redis.url: no Redis is named; set REDIS_URL, redis.url in the config, or --redis')
    this.#config = config
    this.#parts = parts
    this.#keys = fleetKeys(config.redis.prefix)
    // BullMQ refuses a connection that gives up by itself, so the limit is ours.
    this.#redis = connectRedis(url, 'blocking')
    // The calls themselves fail.
    this.#queues = new QueueHandles({ connection: this.#redis, bullPrefix, onError: () => undefined })
    this.#writer = new QueueWriter({ queues: this.#queues, attemptsOf: (queue) => policyOf(config, queue).attempts })
    this.#control = new Control({
      redis: this.#redis,
      prefix: config.redis.prefix,
      bullPrefix,
      queues: this.#queues,
      configured: Object.keys(config.queues),
      perSecondOf: (queue) => policyOf(config, queue).release.perSecond,
    })
  }

  /**
   * Connects with what is passed, the environment and the config file of the working folder, in this order of strength.
   * @throws UserError when the config is not valid, or Redis is away or unsuitable (after 5 s at most)
   */
  static async connect(input: ConfigInput = {}): Promise<Dispatcher> {
    const config = await loadConfig({ cwd: process.cwd(), env: process.env, flags: input, handlersMustExist: false })
    const dispatcher = new Dispatcher(config)
    try {
      await dispatcher.#ready()
    } catch (error) {
      await dispatcher.close()
      throw error
    }
    return dispatcher
  }

  /** @returns the job's id */
  async add(queue: string, data: unknown, options: AddOptions = {}): Promise<string> {
    const [id = ''] = await this.addBulk(queue, [{ ...options, data }])
    return id
  }

  /**
   * Adds many jobs; none when one of them is refused.
   * @returns their ids, in order
   * @throws UserError INPUT_INVALID naming the job or the queue, REDIS_UNREACHABLE
   */
  async addBulk(queue: string, jobs: readonly JobInput[], { where, onProgress }: AddBulkOptions = {}): Promise<string[]> {
    checkQueueName(queue)
    await this.#ready()
    // First, so that no job waits in a queue that no watchdog knows of.
    await this.#within(this.#redis.sadd(this.#keys.queues, queue))
    let progressed: () => void = () => undefined
    const adding = this.#writer.addBulk(queue, jobs, where, (added) => {
      onProgress?.(added)
      progressed()
    })
    return this.#within(adding, this.#callLimitMs, (restart) => {
      progressed = restart
    })
  }

  async status(): Promise<FleetStatus> {
    await this.#ready()
    const [fleet, watchdogs] = await this.#within(Promise.all([this.#readFleet(), readWatchdogs(this.#redis, this.#keys)]))
    return { ...fleet, watchdogs, problems: problemsOf(fleet, watchdogs) }
  }

  /** Why a job is not running, or what it does now. */
  async explain(queue: string, id: string): Promise<Explanation> {
    return this.#order(queue, async () => {
      const found = await this.#explain(queue, id)
      if (found.reason === 'not_found') await this.#control.checkQueue(queue)
      return found
    })
  }

  /**
   * What there is to know of a job, its data left out.
   * @throws UserError JOB_UNKNOWN, QUEUE_UNKNOWN
   */
  async job(queue: string, id: string): Promise<JobInfo> {
    return this.#order(queue, async () => {
      await this.#control.checkQueue(queue)
      const found = await this.#explain(queue, id)
      if (found.reason === 'not_found') throw await this.#control.unknownJob(queue, id)
      return found
    })
  }

  /**
   * The jobs of this id, in whichever queues they are; none when there is none.
   * @param queue only in this one
   */
  async find(id: string, queue?: string): Promise<JobInfo[]> {
    await this.#ready()
    const { queues } = await this.#within(this.#readFleet())
    const names = queues.map((facts) => facts.queue).filter((name) => queue === undefined || name === queue)
    const found = await this.#within(Promise.all(names.map((name) => this.#explain(name, id))))
    return found.flatMap((one) => (one.reason === 'not_found' ? [] : [one]))
  }

  /**
   * The jobs of a queue, page by page; as long as a page has a cursor there may be more, also when it is not full.
   * @throws UserError QUEUE_UNKNOWN, INPUT_INVALID
   */
  async jobs(queue: string, options: JobListOptions = {}): Promise<JobPage> {
    return this.#order(queue, async () => {
      await this.#control.checkQueue(queue)
      const fleet = await this.#readFleet()
      const carriers = carriersIn(fleet, queue)
      return listJobs(options, {
        readSlice: readJobSlices(this.#redis, this.#config.redis.bullPrefix, queue),
        show: (id, place) => listed(this.#shown(fleet, carriers.get(id), { queue, id, place })),
      })
    })
  }

  /**
   * Sets a job's attempts to 0 and puts it back, if it is not in line already.
   * @throws UserError JOB_UNKNOWN, JOB_RUNNING, JOB_COMPLETED, JOB_FRESH, JOB_WAITS_FOR_CHILDREN, QUEUE_UNKNOWN, INPUT_INVALID
   */
  async reset(queue: string, id: string, options: OrderOptions = {}): Promise<JobReset> {
    return this.#order(queue, () => this.#control.reset(queue, id, options))
  }

  /** Orders that all exhausted jobs of a queue are put back, at its pace (`release.perSecond`). */
  async resetAll(queue: string, options: BulkResetOptions = {}): Promise<BulkReset> {
    return this.#order(queue, () => this.#control.resetAll(queue, options))
  }

  /**
   * Cancels a job, wherever it is. One that runs is told to stop (`ctx.signal`); `job` says when it has.
   * @throws UserError JOB_UNKNOWN, JOB_COMPLETED, JOB_FAILED, JOB_CANCELLED, JOB_FOREIGN, JOB_SCHEDULED, JOB_WAITS_FOR_CHILDREN,
   * QUEUE_UNKNOWN, INPUT_INVALID
   */
  async cancel(queue: string, id: string, options: OrderOptions = {}): Promise<JobCancelled> {
    return this.#order(queue, () => this.#control.cancel(queue, id, options))
  }

  /** The queue keeps its jobs and gives none out; what runs goes on. @returns false when it was paused before */
  async pause(queue: string, options: OrderOptions = {}): Promise<boolean> {
    return this.#order(queue, () => this.#control.pause(queue, options))
  }

  /** @returns false when it was not paused */
  async resume(queue: string, options: OrderOptions = {}): Promise<boolean> {
    return this.#order(queue, () => this.#control.resume(queue, options))
  }

  /**
   * Tells a supervisor to take no more jobs, finish what runs and leave.
   * @returns how many jobs it runs now
   * @throws UserError SUPERVISOR_UNKNOWN, SUPERVISOR_GONE
   */
  async drain(supervisor: string, options: Pick<OrderOptions, 'dryRun'> = {}): Promise<number> {
    await this.#ready()
    return this.#within(this.#control.drain(supervisor, options))
  }

  /**
   * Where the threads of a supervisor are now. What was seen is kept for a day.
   * @throws UserError SUPERVISOR_UNKNOWN, SUPERVISOR_GONE, THREAD_UNKNOWN, DUMP_REFUSED, SENTINEL_UNREACHABLE, INPUT_INVALID
   */
  async dump(supervisor: string, { thread, deep = false }: DumpOptions = {}): Promise<Dump[]> {
    const call = { targets: targetsNamed(thread), deep }
    await this.#ready()
    const seen = await this.#within(this.#control.living(supervisor, 'dump'))
    return this.#within(callForDumps(this.#redis, this.#keys, seen, call), this.#callLimitMs + dumpLimitMs(call))
  }

  /** A dump that was taken before. @returns undefined when it is not kept, or not any more */
  async readDump(id: string): Promise<Dump | undefined> {
    await this.#ready()
    return this.#within(readDump(this.#redis, this.#keys, id))
  }

  /** The newest transitions (STUCK, RESUMED, flapping), newest first. */
  async transitions(limit: number): Promise<readonly Transition[]> {
    await this.#ready()
    return this.#within(redisIncidents(this.#redis, this.#keys).recent(limit))
  }

  async close(): Promise<void> {
    // BullMQ leaves a connection that it was given alone; one that is away must not hold up the end.
    this.#redis.disconnect()
    await this.#queues.close().catch(() => undefined)
  }

  get #callLimitMs(): number {
    return this.#parts.callLimitMs ?? CALL_LIMIT_MS
  }

  async #order<T>(queue: string, call: () => Promise<T>): Promise<T> {
    checkQueueName(queue)
    await this.#ready()
    return this.#within(call())
  }

  async #explain(queue: string, id: string): Promise<Explanation> {
    const { bullPrefix } = this.#config.redis
    const [place, fleet] = await Promise.all([readJobPlace(this.#redis, bullPrefix, queue, id), this.#readFleet()])
    return this.#shown(fleet, carriersIn(fleet, queue).get(id), { queue, id, place })
  }

  #shown(fleet: FleetView, carrier: Carrier | undefined, found: Pick<ExplainInput, 'queue' | 'id' | 'place'>): Explanation {
    const facts = fleet.queues.find(({ queue }) => queue === found.queue)
    const { attempts } = policyOf(this.#config, found.queue)
    return explain({ ...found, carrier, room: facts ?? NO_ROOM, policy: attempts })
  }

  async #ready(): Promise<void> {
    const { probeLimitMs } = this.#parts
    if (probeLimitMs === undefined) return this.#check()
    const answer = this.#check().then(() => this.#ping())
    if ((await within(answer, probeLimitMs)) !== TIMED_OUT) return
    const where = redactUrl(this.#config.redis.url ?? '')
    throw new UserError('REDIS_UNREACHABLE', `${where}: no answer in ${probeLimitMs} ms; nothing was done; check Redis`)
  }

  #check(): Promise<void> {
    this.#checked ??= this.#open().catch((error: unknown) => {
      this.#checked = undefined
      throw error
    })
    return this.#checked
  }

  async #open(): Promise<void> {
    this.#queues.trace((await openTracing(this.#config.telemetry)).bullmq)
    await checkRedis(this.#redis, CONNECT_LIMIT_MS)
  }

  /** Many who ask while Redis is away leave one question behind. */
  #ping(): Promise<unknown> {
    this.#pinged ??= this.#redis.ping().finally(() => {
      this.#pinged = undefined
    })
    return this.#pinged
  }

  #readFleet(): Promise<FleetView> {
    const { redis, queues } = this.#config
    const model = this.#parts.readModel ?? readModel(redisFleetSource(this.#redis, redis), systemClock, Object.keys(queues))
    return model.readFleet()
  }

  /** Gives up a call that makes no progress for too long. Whether Redis has done it is then not known. */
  async #within<T>(
    call: Promise<T>,
    limitMs = this.#callLimitMs,
    onRestart: (restart: () => void) => void = () => undefined,
  ): Promise<T> {
    let timer: NodeJS.Timeout | undefined
    const limit = new Promise<never>((_, reject) => {
      const where = redactUrl(this.#config.redis.url ?? '')
      const message = `${where}: no answer in ${limitMs} ms, and what was asked may still be done; check Redis and look before trying again`
      timer = setTimeout(() => reject(new UserError('REDIS_UNREACHABLE', message)), limitMs)
    })
    onRestart(() => timer?.refresh())
    try {
      return await Promise.race([call, limit])
    } finally {
      clearTimeout(timer)
    }
  }
}

/** Who carries the jobs of a queue, by what the beats say. */
function carriersIn({ supervisors }: FleetView, queue: string): ReadonlyMap<string, Carrier> {
  const carriers = new Map<string, Carrier>()
  for (const { name, state, jobs } of supervisors) {
    if (state === 'dead' || state === 'stopped') continue
    for (const { thread, queue: of, id, ...job } of jobs)
      if (of === queue && !carriers.has(id)) carriers.set(id, { ...job, supervisor: name, slot: thread })
  }
  return carriers
}

function listed(found: Explanation): ListedJob | undefined {
  if (found.reason === 'not_found') return undefined
  const { why: _why, output: _output, ...job } = found
  return job
}

function checkQueueName(queue: string): void {
  const problem = queueNameProblem(queue)
  if (problem !== undefined) throw new UserError('INPUT_INVALID', problem)
}

/** A queue that nobody knows of. */
const NO_ROOM = { eligible: 0, free: 0, maxed: false, limitedMs: 0 }
