/** What runs a queue's jobs: threads with processes for suspects, or sessions. */
import { hostname } from 'node:os'
import { ChildExecutor } from '../dispatch/child-executor.js'
import { PiscinaExecutor } from '../dispatch/piscina-executor.js'
import { redisSessionRecords } from '../dispatch/redis-sessions.js'
import type { Executor } from '../dispatch/run-attempt.js'
import { SessionExecutor } from '../dispatch/session-executor.js'
import { suspectsApart } from '../dispatch/suspects-apart.js'
import type { ThreadLogLine } from '../dispatch/thread-protocol.js'
import type { BeatBoard } from '../heartbeat/beat-board.js'
import type { Tracer } from '../kernel/telemetry.js'
import { planLaunch } from '../launch/launch-plan.js'
import type { Config, QueueConfig, SessionConfig } from '../platform/config.js'
import type { Logger } from '../platform/pino-logger.js'
import { systemClock } from '../platform/system-clock.js'
import type { SessionHost } from './session-host.js'

export interface QueueExecutor {
  readonly executor: Executor
  /** A queue of sessions. */
  readonly sessions?: SessionExecutor
  /** Ends what runs, whatever it does. */
  stop(): Promise<void>
}

export interface ExecutorOptions {
  readonly config: Config
  readonly queue: string
  readonly queueConfig: QueueConfig
  /** Index in the board's layout. */
  readonly index: number
  /** `supervisor#incarnation`. */
  readonly owner: string
  readonly board: BeatBoard
  readonly tracer: Tracer
  readonly log: Logger
  readonly onError: (error: unknown) => void
  /** More threads than it can bear were ended and do not die: only the end of the process frees them. */
  readonly onWornOut: (queue: string) => void
  /** What sessions need of the supervisor; there when a queue of it has sessions. */
  readonly host: SessionHost | undefined
}

/** Turns of an event loop are stamped so many times within the threshold that judges them, at least every half second. */
export const tickMsFor = (thresholdMs: number): number => Math.min(500, Math.max(25, Math.floor(thresholdMs / 20)))

export function queueExecutor(options: ExecutorOptions): QueueExecutor {
  const { session, handler } = options.queueConfig
  if (session && options.host) return sessions(options, session, options.host)
  if (handler !== undefined) return threads(options, handler)
  throw new Error(`queue ${options.queue}: nothing runs its jobs`)
}

function threads(options: ExecutorOptions, handler: string): QueueExecutor {
  const { config, queue, queueConfig, index, board, log, onError, onWornOut } = options
  const running = {
    board,
    handler,
    tickMs: tickMsFor(config.heartbeat.threadBlockedMs),
    onLog: ({ level, message, jobId, attempt }: ThreadLogLine) =>
      log[level]({ event: 'job_log', queue, jobId, attempt }, message),
  }
  const alone = new ChildExecutor({ ...running, soloModule: new URL('./solo-process.js', import.meta.url) })
  const pool = new PiscinaExecutor({
    ...running,
    queueIndex: index,
    threads: queueConfig.threads,
    jobsPerThread: queueConfig.jobsPerThread,
    threadModule: new URL('./task-thread.js', import.meta.url),
    onZombie: (threadId) =>
      log.error(
        { event: 'zombie_thread', queue, threadId },
        `ZOMBIE thread of ${queue}: it was ended and does not die, being in native code; another does its work`,
      ),
    onTooManyZombies: () => onWornOut(queue),
    onError,
  })
  return {
    executor: suspectsApart(pool, alone),
    stop: async () => {
      await Promise.all([pool.stop(), alone.stop()])
    },
  }
}

/** Running sessions are looked at so many times within the threshold that judges their silence. */
const LOOKS_IN_THRESHOLD = 20
const SHORTEST_LOOK_MS = 500
const LONGEST_LOOK_MS = 5000

function sessions(options: ExecutorOptions, session: SessionConfig, host: SessionHost): QueueExecutor {
  const { config, queue, queueConfig, owner, board, tracer, onError } = options
  const { silentAfterMs, launchTimeoutMs, orphans, concurrency } = queueConfig
  const { lines, metrics, socket } = host
  const executor = new SessionExecutor({
    config: session,
    concurrency,
    survives: orphans === 'adopt',
    launchTimeoutMs,
    lookMs: Math.min(LONGEST_LOOK_MS, Math.max(SHORTEST_LOOK_MS, silentAfterMs / LOOKS_IN_THRESHOLD)),
    lostGraceMs: host.lostGraceMs(session),
    tickMs: tickMsFor(config.heartbeat.threadBlockedMs),
    host: hostname(),
    owner,
    board,
    ports: { sessions: host.sessions, workspaces: host.workspaces, records: redisSessionRecords(host.records, queue) },
    plan: (job) => planLaunch({ session, job, runtimeDir: config.supervisor.runtimeDir, socket: '', inherited: process.env }),
    link: (folder) => socket.link(folder),
    unlink: (folder) => socket.unlink(folder),
    monotonicMs: systemClock.monotonicMs,
    tracer,
    events: {
      rolledBack: ({ id }, step, error) => {
        metrics.launchRolledBack(queue, step)
        lines.rolledBack(queue, id, step, error)
      },
      leftBehind: ({ id }, what, error) => lines.leftBehind(queue, id, what, error),
      error: onError,
    },
  })
  return { executor, sessions: executor, stop: () => executor.stop() }
}
