/** What all queues of sessions of one supervisor share: the socket for their sessions, the clean-up after ghosts, the lines. */
import { hostname } from 'node:os'
import type { Redis } from 'ioredis'
import type { DispatchMetrics } from '../dispatch/prom-dispatch-metrics.js'
import { type RedisSessionsOptions, redisGhostRecords } from '../dispatch/redis-sessions.js'
import type { SessionExecutor } from '../dispatch/session-executor.js'
import { Bursts } from '../kernel/bursts.js'
import { messageOf } from '../kernel/errors.js'
import type { Gatherer } from '../kernel/gatherer.js'
import { ChildSessions } from '../launch/child-session.js'
import { GitWorkspaces } from '../launch/git-worktree.js'
import { SessionSocket } from '../launch/node-session-socket.js'
import type { LaunchStep, SessionRecord, Sessions, Workspaces } from '../launch/session.js'
import type { Config, SessionConfig } from '../platform/config.js'
import type { Logger } from '../platform/pino-logger.js'
import { socketFolder } from '../platform/socket-folder.js'
import { findGhosts, type GhostPorts, type GhostQueue } from '../recovery/ghosts.js'
import type { OwnerName } from '../recovery/orphan-policy.js'

/** A queue of the supervisor. */
interface SessionQueue {
  readonly queue: string
  /** There when it has sessions. */
  readonly sessions: SessionExecutor | undefined
  readonly worker: { adopt(jobId: string, token: string): Promise<void> }
}

export interface SessionHostOptions {
  readonly config: Config
  readonly redis: Redis
  readonly me: OwnerName
  /** `supervisor#incarnation`. */
  readonly owner: string
  readonly runners: () => readonly SessionQueue[]
  readonly metrics: DispatchMetrics
  readonly errors: Gatherer
  readonly log: Logger
}

export interface SessionLines {
  rolledBack(queue: string, jobId: string, step: LaunchStep, error: Error): void
  leftBehind(queue: string, jobId: string, what: string, error: unknown): void
  flush(): void
}

/** A session whose supervisor is gone has ended before the supervisor's silence is noticed, milliseconds. */
const LONGEST_LOST_GRACE_MS = 2000

export class SessionHost {
  readonly sessions: Sessions = new ChildSessions()
  readonly workspaces: Workspaces = new GitWorkspaces()
  readonly socket: SessionSocket
  readonly records: RedisSessionsOptions
  readonly lines: SessionLines
  readonly metrics: DispatchMetrics
  readonly #options: SessionHostOptions

  constructor(options: SessionHostOptions) {
    this.#options = options
    const { config, redis, owner, me, log, errors, metrics } = options
    this.metrics = metrics
    this.lines = sessionLines(log)
    this.records = {
      redis,
      bullPrefix: config.redis.bullPrefix,
      host: hostname(),
      owner,
      lockDurationMs: Math.min(...Object.values(config.queues).map(({ lockDurationMs }) => lockDurationMs)),
      onUnreadable: (queue, job, why) => errors.add(`session of job:${queue}/${job}: its record is set aside: ${why}`),
    }
    this.socket = new SessionSocket({
      folder: socketFolder(),
      name: me.incarnation,
      answer: async (request) => {
        const sessions = options.runners().find(({ queue }) => queue === request.queue)?.sessions
        return sessions?.answer(request) ?? { ok: false, error: `queue ${request.queue}: has no sessions here` }
      },
    })
  }

  lostGraceMs({ graceMs }: SessionConfig): number {
    return Math.min(graceMs, LONGEST_LOST_GRACE_MS, this.#options.config.heartbeat.timeoutMs / 2)
  }

  /** Ends or adopts what former supervisors of this host left in a queue. */
  async findGhosts(queue: string, judges: boolean, beats: GhostPorts['beats']): Promise<void> {
    const { config, me, runners, errors, log } = this.#options
    const queueConfig = config.queues[queue]
    const runner = runners().find((candidate) => candidate.queue === queue)
    const executor = runner?.sessions
    if (!queueConfig?.session || !runner || !executor) return
    const ghosts: GhostQueue = {
      queue,
      orphans: queueConfig.orphans,
      graceMs: this.lostGraceMs(queueConfig.session),
      keep: queueConfig.session.keep !== 'never',
      knows: (record) => executor.knows(record),
      adopt: (record, token) => {
        executor.expect(record)
        runner.worker
          .adopt(record.job, token)
          .catch((error: unknown) => errors.add(`queue ${queue}: ${messageOf(error)}`))
          .finally(() => executor.forget(record))
      },
    }
    const ports = { records: redisGhostRecords(this.records), sessions: this.sessions, workspaces: this.workspaces, beats }
    const { adopted, ended } = await findGhosts(ghosts, me, judges, ports, (error) =>
      errors.add(`ghosts of ${queue}: ${messageOf(error)}`),
    )
    for (const { folder } of ended) await this.socket.unlink(folder)
    sayFound(log, queue, 'session_adopted', 'SESSIONS ADOPTED', adopted)
    sayFound(log, queue, 'ghost_ended', 'GHOSTS ENDED', ended)
  }
}

const SHOWN_IDS = 20

function sayFound(log: Logger, queue: string, event: string, title: string, records: readonly SessionRecord[]): void {
  const [first] = records
  if (!first) return
  const jobs = records.length === 1 ? `job:${queue}/${first.job}` : `${records.length} sessions of ${queue}`
  const jobIds = records.slice(0, SHOWN_IDS).map(({ job }) => job)
  log.warn({ event, queue, count: records.length, jobIds }, `${title} ${jobs}: their supervisor is gone`)
}

interface RolledBack {
  readonly queue: string
  readonly jobId: string
  readonly step: LaunchStep
  readonly message: string
}

function sessionLines(log: Logger): SessionLines {
  const bursts = new Bursts<RolledBack>({
    say: (_kind, items, count) => {
      const [first] = items
      if (!first) return
      const { queue, step, message } = first
      const jobs = count === 1 ? `job:${queue}/${first.jobId}` : `${count} jobs of ${queue}`
      const jobIds = items.map(({ jobId }) => jobId)
      log.warn({ event: 'launch_rolled_back', queue, step, count, jobIds }, `LAUNCH ROLLED BACK ${jobs} at ${step}: ${message}`)
    },
  })
  return {
    rolledBack: (queue, jobId, step, { message }) => bursts.add(JSON.stringify([queue, step]), { queue, jobId, step, message }),
    leftBehind: (queue, jobId, what, error) =>
      log.error(
        { event: 'left_behind', queue, jobId, what },
        `LEFT BEHIND job:${queue}/${jobId}: ${what} could not be removed (${messageOf(error)}); the reconcile loop tries again`,
      ),
    flush: () => bursts.flush(),
  }
}
