/**
 * Everything on this machine, started and ended in order: Redis (unless one is given), a watchdog, supervisors. A stop
 * goes the other way round, so that supervisors drain under a watchdog's eyes and everybody can say goodbye.
 */
import { join } from 'node:path'
import { messageOf, UserError } from '../kernel/errors.js'
import { Service } from '../kernel/service.js'
import type { Config } from '../platform/config.js'
import { type EmbeddedRedis, REDUCED_BANNER, REDUCED_LIMITS, startEmbeddedRedis } from '../platform/embedded-redis.js'
import type { Logger } from '../platform/pino-logger.js'
import { redactUrl } from '../platform/redis.js'
import { EMBEDDED_FOLDER } from './context.js'
import { refusePortInUse, refuseUnsuitableRedis } from './first-look.js'
import { Member } from './member.js'

export interface MachineOptions {
  readonly config: Config
  /** `--config FILE`, for the processes to read themselves. */
  readonly configFile: string | undefined
  readonly supervisors: number
  readonly log: Logger
  /** A finished JSON log line of one of the processes. */
  readonly onLine: (line: string) => void
  readonly onComplaint: (line: string) => void
}

/** What a supervisor may take beyond its drain to hand back and say goodbye, and a watchdog to end; milliseconds. */
const STOP_GRACE_MS = 8000
const WATCHDOG_STOP_MS = 5000
const FORCED_STOP_MS = 4000
const WATCHDOG_RESTART_MS = 1000

export class Machine extends Service {
  readonly #options: MachineOptions
  #redis: EmbeddedRedis | undefined
  #watchdog: Member | undefined
  #supervisors: Member[] = []
  #address = ''
  #forced = false

  constructor(options: MachineOptions) {
    super()
    this.#options = options
  }

  /** Where the dashboard is, once started. */
  get address(): string {
    return this.#address
  }

  get redisUrl(): string {
    return this.#redis?.url ?? this.#options.config.redis.url ?? ''
  }

  /** True on the last-resort Redis, which carries little. */
  get reduced(): boolean {
    return this.#redis?.reduced === true
  }

  protected override async onStart(): Promise<void> {
    const { config, supervisors } = this.#options
    const queues = Object.keys(config.queues)
    if (queues.length === 0) {
      throw new UserError(
        'CONFIG_INVALID',
        'queues: none is configured; add queues.NAME.handler to unstuck.config.mjs, or try `unstuck up --demo`',
      )
    }
    await refusePortInUse(config.http)
    await this.#startRedis()
    await refuseUnsuitableRedis({ ...config, redis: { ...config.redis, url: this.redisUrl } })
    const { port } = config.http
    this.#watchdog = this.#member('watchdog', ['watchdog', '--port', String(port)], WATCHDOG_RESTART_MS)
    this.#address = (await this.#watchdog.start()).address
    const afterDeathIsSaid = config.heartbeat.timeoutMs + 1000
    this.#supervisors = namesOf(config, supervisors).map((name) =>
      this.#member(name, ['supervisor', '--name', name, '--port', '0'], afterDeathIsSaid),
    )
    await allOrFirstError(this.#supervisors.map((supervisor) => supervisor.start()))
  }

  async #startRedis(): Promise<void> {
    const { config, log, supervisors, onComplaint } = this.#options
    if (config.redis.url !== undefined) return
    this.#redis = await startEmbeddedRedis({ dir: join(process.cwd(), EMBEDDED_FOLDER), env: process.env, log })
    const { kind, url, reduced } = this.#redis
    log.info({ event: 'embedded_redis', url: redactUrl(url) }, `brought a Redis (${kind}), its data is in ${EMBEDDED_FOLDER}`)
    if (!reduced) return
    onComplaint(REDUCED_BANNER)
    const slots =
      Object.values(config.queues).reduce((sum, queue) => sum + queue.threads * queue.jobsPerThread, 0) * supervisors
    if (slots <= REDUCED_LIMITS.slots) return
    throw new UserError(
      'REDIS_UNSUITABLE',
      `js-redis-server: carries ${REDUCED_LIMITS.slots} slots and ${slots} are configured; install redis-server, or lower threads and --supervisors`,
    )
  }

  #member(name: string, args: readonly string[], restartAfterMs: number): Member {
    const { configFile, log, onLine, onComplaint } = this.#options
    // In the environment, not among the arguments: an address may hold a password, and everybody can read those.
    // No member speaks to systemd for the whole.
    const own = { UNSTUCK_REDIS_URL: this.redisUrl, UNSTUCK_LOG_FORMAT: 'json', NOTIFY_SOCKET: undefined }
    const env = { ...process.env, ...own }
    const config = configFile === undefined ? [] : ['--config', configFile]
    return new Member({
      ...{ name, args: [...args, ...config], env, restartAfterMs, onLine, onComplaint },
      onTrouble: (message, fields) => log.error({ event: 'member_ended', ...fields }, message),
    })
  }

  /** A second signal: nothing is waited for. */
  force(): void {
    this.#forced = true
    for (const supervisor of this.#supervisors) supervisor.force(FORCED_STOP_MS)
    this.#watchdog?.force(FORCED_STOP_MS)
  }

  protected override async onStop(): Promise<void> {
    const { config, log } = this.#options
    const limitMs = this.#forced ? FORCED_STOP_MS : config.supervisor.drainMs + STOP_GRACE_MS
    const stops = await Promise.allSettled(this.#supervisors.map((supervisor) => supervisor.stop(limitMs)))
    for (const stop of stops) if (stop.status === 'rejected') log.error({ event: 'stop_failed' }, messageOf(stop.reason))
    await this.#watchdog?.stop(WATCHDOG_STOP_MS)
    await this.#redis?.stop()
  }
}

function namesOf({ supervisor }: Config, count: number): string[] {
  if (count === 1 && supervisor.name !== undefined) return [supervisor.name]
  return Array.from({ length: count }, (_, index) => `${supervisor.name ?? 'supervisor'}-${index + 1}`)
}

/** Waits for all, also when one fails: what is still starting could not be stopped in order. */
async function allOrFirstError(starts: readonly Promise<unknown>[]): Promise<void> {
  for (const result of await Promise.allSettled(starts)) if (result.status === 'rejected') throw result.reason
}
