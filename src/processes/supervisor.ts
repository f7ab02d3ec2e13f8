/**
 * The supervisor process: takes jobs and runs them in threads. Its main thread runs no job code.
 *
 * Order of a start: store checked, port taken and name registered by the sentinel, threads, workers, reconcile loop. A stop goes the
 * other way round: no more jobs are taken, what runs may finish within `drainMs`, the rest is handed back uncharged,
 * and the last thing said is goodbye, so that nobody calls a process dead that ended on purpose.
 */
import { randomBytes } from 'node:crypto'
import type { Redis } from 'ioredis'
import { type DispatchMetrics, dispatchMetrics } from '../dispatch/prom-dispatch-metrics.js'
import { BeatBoard } from '../heartbeat/beat-board.js'
import { ownIdentity, type SentinelHost, startNamedSentinel } from '../heartbeat/node-sentinel-host.js'
import type { SentinelData, SupervisorOrder } from '../heartbeat/sentinel-protocol.js'
import { messageOf } from '../kernel/errors.js'
import { Gatherer, withCount } from '../kernel/gatherer.js'
import type { PollLoop } from '../kernel/poll-loop.js'
import { Service } from '../kernel/service.js'
import { type Config, slotsOf } from '../platform/config.js'
import { openTracing, type Tracing } from '../platform/otel-tracer.js'
import type { Logger } from '../platform/pino-logger.js'
import { processRegistry } from '../platform/prom-metrics.js'
import { checkRedis, connectRedis } from '../platform/redis.js'
import { systemClock } from '../platform/system-clock.js'
import { VERSION } from '../platform/version.js'
import { ownerName } from '../recovery/orphan-policy.js'
import { RESETS_BY } from '../recovery/reset-policy.js'
import { tickMsFor } from './executors.js'
import { type Systemd, systemdOf } from './node-systemd-notify.js'
import { QueueRunner } from './queue-runner.js'
import { readSettings, wireReconcile } from './reconcile-wiring.js'
import { type RecoveryLines, recoveryLines } from './recovery-lines.js'
import { SessionHost } from './session-host.js'
import { type RunnableQueue, requireRedisUrl, runnableQueues } from './supervised-queues.js'

export interface SupervisorOptions {
  readonly config: Config
  /** Serve only these of the configured queues. Default: all. */
  readonly queues?: readonly string[]
  readonly log: Logger
  /** A newer incarnation took over our name: this process must end, and has nothing more to say. */
  readonly onReplaced: () => void
  /** Ordered to take no more jobs and to leave. May come again while it does. */
  readonly onDrainOrder: () => void
  /** Threads that do not die fill this process: it must drain, and end in a way that has it started again. */
  readonly onWornOut: (queue: string) => void
}

/** How long a handler may go on after its signal aborted, milliseconds. */
const ABORT_GRACE_MS = 1000
const GOODBYE_TIMEOUT_MS = 2000

export class Supervisor extends Service {
  readonly incarnation = randomBytes(6).toString('hex')
  readonly #options: SupervisorOptions
  readonly #queues: readonly RunnableQueue[]
  readonly #board: BeatBoard
  readonly #metrics: DispatchMetrics
  readonly #lines: RecoveryLines
  readonly #errors: Gatherer
  readonly #systemd: Systemd
  #name = ''
  #runners: QueueRunner[] = []
  #sentinel: SentinelHost | undefined
  #reconcile: PollLoop | undefined
  #host: SessionHost | undefined
  #closeRedis: (() => void) | undefined
  #tick: NodeJS.Timeout | undefined
  #force: (() => void) | undefined
  #forced = false

  /** @throws UserError QUEUE_UNKNOWN, CONFIG_INVALID */
  constructor(options: SupervisorOptions) {
    super()
    this.#options = options
    this.#queues = runnableQueues(options.config, options.queues)
    this.#board = BeatBoard.create(
      {
        queues: this.#queues.map(([name, queue]) => ({
          name,
          threads: queue.session ? 0 : queue.threads,
          slots: slotsOf(queue),
        })),
        loops: [...this.#queues.map(([queue]) => ({ loop: 'fetch' as const, queue })), { loop: 'reconcile' as const }],
      },
      systemClock.monotonicMs,
    )
    this.#metrics = dispatchMetrics(processRegistry({ role: 'supervisor', version: VERSION }), this.#board, RESETS_BY)
    this.#lines = recoveryLines(options.log, (queue, by, count) => this.#metrics.attemptsReset(queue, by, count))
    this.#errors = new Gatherer({
      monotonicMs: systemClock.monotonicMs,
      say: (message, count) => options.log.warn({ event: 'error', count }, withCount(message, count)),
    })
    const { monotonicMs } = systemClock
    this.#systemd = systemdOf({ env: process.env, monotonicMs, onError: (message) => this.#errors.add(message) })
  }

  get name(): string {
    return this.#name
  }

  /** The port of /livez, /readyz and /metrics, once started. */
  get port(): number | undefined {
    return this.#sentinel?.port
  }

  protected override async onStart(): Promise<void> {
    const { config, log } = this.#options
    const redisUrl = requireRedisUrl(config)
    const tracing = await openTracing(config.telemetry)
    // Held back while Redis is away and never given up by itself, as the loop's probe shows how long it hangs.
    const redis = connectRedis(redisUrl, 'command', { onError: (error) => this.#errors.add(`Redis: ${error.message}`) })
    this.#closeRedis = () => redis.disconnect()
    await checkRedis(redis)
    this.#tick = setInterval(() => this.#board.mainTurned(), tickMsFor(config.heartbeat.loopBlockedMs))
    this.#sentinel = await this.#register(redisUrl)
    const settings = await readSettings(this.#queues)
    if (this.#queues.some(([, { session }]) => session)) this.#host = this.#sessionHost(redis)
    await this.#host?.socket.start()
    await this.#startQueues(redisUrl, settings, tracing)
    this.#reconcile = wireReconcile({
      config,
      queues: new Map(this.#queues),
      settings,
      runners: this.#runners,
      owner: this.#owner,
      redis,
      board: this.#board,
      metrics: this.#metrics,
      lines: this.#lines,
      errors: this.#errors,
      log,
      host: this.#host,
    })
    await this.#reconcile.start()
    this.#board.processState = 'running'
    this.#systemd.ready()
    const serves = this.#queues.map(([queue]) => queue).join(', ')
    log.info({ event: 'started', supervisor: this.#name, port: this.port }, `supervisor ${this.#name} serves ${serves}`)
  }

  /** Takes the configured name, or the first free number after the host's name. */
  async #register(redisUrl: string): Promise<SentinelHost> {
    return await startNamedSentinel(this.#options.config.supervisor.name, (name) => {
      this.#name = name
      return {
        data: this.#sentinelData(redisUrl),
        onTerminate: (order) => this.#runners.find((runner) => runner.queue === order.queue)?.terminate(order),
        onOrder: (order) => this.#obey(order),
        onReplaced: this.#options.onReplaced,
        onError: (message) => this.#errors.add(`sentinel: ${message}`),
        metrics: () => this.#metrics.registry.metrics(),
      }
    })
  }

  #obey(order: SupervisorOrder): void {
    if (order.kind === 'drain') {
      this.#options.onDrainOrder()
      return
    }
    const runner = this.#runners.find(({ queue }) => queue === order.queue)
    runner?.worker.cancel(order.jobId, order.fence)
  }

  #sentinelData(redisUrl: string): SentinelData {
    const { config } = this.#options
    return {
      ...ownIdentity(config, this.#name, this.incarnation),
      queues: this.#queues.map(([name, queue]) => ({
        name,
        slots: slotsOf(queue),
        silentAfterMs: queue.silentAfterMs,
        ...(queue.session ? { launchTimeoutMs: queue.launchTimeoutMs } : {}),
        lockDurationMs: queue.lockDurationMs,
        onStuck: queue.onStuck,
      })),
      handle: this.#board.handle,
      redisUrl,
      prefix: config.redis.prefix,
      http: { host: config.supervisor.host, port: config.supervisor.port, again: false },
      systemd: true,
    }
  }

  #sessionHost(redis: Redis): SessionHost {
    const { config, log } = this.#options
    const me = { supervisor: this.#name, incarnation: this.incarnation }
    const runners = () => this.#runners
    return new SessionHost({
      config,
      redis,
      me,
      owner: this.#owner,
      runners,
      metrics: this.#metrics,
      errors: this.#errors,
      log,
    })
  }

  async #startQueues(redisUrl: string, settings: ReadonlyMap<string, string>, tracing: Tracing): Promise<void> {
    const { config, log } = this.#options
    const owner = this.#owner
    this.#runners = this.#queues.map(
      ([queue, queueConfig], index) =>
        new QueueRunner({
          config,
          queue,
          queueConfig,
          index,
          owner,
          settings: settings.get(queue) ?? '',
          redisUrl,
          board: this.#board,
          host: this.#host,
          tracing,
          onWornOut: this.#options.onWornOut,
          log,
          events: {
            firstStart: this.#metrics.firstStart,
            attemptEnded: this.#metrics.attemptEnded,
            error: (name, error) => this.#errors.add(`queue ${name}: ${messageOf(error)}`),
            ledger: (name) => this.#lines.ledger(name),
          },
        }),
    )
    await Promise.all(this.#runners.map((runner) => runner.start()))
  }

  get #owner(): string {
    return ownerName({ supervisor: this.#name, incarnation: this.incarnation })
  }

  /** A second signal: what runs is handed back now. */
  force(): void {
    this.#forced = true
    this.#force?.()
  }

  protected override async onStop(): Promise<void> {
    const { log, config } = this.#options
    this.#board.processState = 'draining'
    this.#systemd.stopping()
    if (this.#runners.length > 0) await this.#drain(config.supervisor.drainMs)
    await this.#reconcile?.stop()
    await Promise.all(this.#runners.map((runner) => runner.stop()))
    await this.#host?.socket.stop()
    this.#host?.lines.flush()
    this.#lines.flush()
    await this.#sentinel?.goodbye(GOODBYE_TIMEOUT_MS)
    await this.#sentinel?.terminate()
    clearInterval(this.#tick)
    this.#closeRedis?.()
    if (this.#sentinel) log.info({ event: 'stopped', supervisor: this.#name }, `supervisor ${this.#name} stopped`)
  }

  async #drain(drainMs: number): Promise<void> {
    for (const runner of this.#runners) runner.worker.drain()
    const idle = Promise.all(this.#runners.map((runner) => runner.worker.attempts.idle()))
    if (!this.#forced && (await this.#within(idle, drainMs))) return
    const left = this.#runners.reduce((sum, runner) => sum + runner.busy, 0)
    if (left === 0) return
    this.#options.log.warn({ event: 'handed_back', count: left }, `${left} running jobs are handed back, uncharged`)
    for (const runner of this.#runners) runner.worker.abortAll()
    if (await this.#within(idle, ABORT_GRACE_MS)) return
    for (const runner of this.#runners) runner.worker.handBackAll()
    await this.#within(idle, GOODBYE_TIMEOUT_MS)
  }

  /** @returns whether it came true in time; a forced stop does not wait */
  async #within(promise: Promise<unknown>, limitMs: number): Promise<boolean> {
    let timer: NodeJS.Timeout | undefined
    const limit = new Promise<boolean>((resolve) => {
      timer = setTimeout(() => resolve(false), limitMs)
      this.#force = () => resolve(false)
    })
    const inTime = await Promise.race([promise.then(() => true), limit])
    clearTimeout(timer)
    return inTime
  }
}
