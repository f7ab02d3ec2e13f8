/** Puts the reconcile loop of a supervisor together: its store, what it tells the workers, and what it says. */
import { readFile } from 'node:fs/promises'
import { isAbsolute } from 'node:path'
import type { Redis } from 'ioredis'
import type { DispatchMetrics } from '../dispatch/prom-dispatch-metrics.js'
import type { BeatBoard } from '../heartbeat/beat-board.js'
import { boardLoopProbe } from '../heartbeat/loop-probe.js'
import { Observer } from '../heartbeat/observer.js'
import { messageOf } from '../kernel/errors.js'
import type { Gatherer } from '../kernel/gatherer.js'
import type { PollLoop } from '../kernel/poll-loop.js'
import type { Config, QueueConfig } from '../platform/config.js'
import type { Logger } from '../platform/pino-logger.js'
import { fleetKeys } from '../platform/redis-keys.js'
import { systemClock } from '../platform/system-clock.js'
import type { Orphan } from '../recovery/orphan-policy.js'
import { reconcileLoop } from '../recovery/reconcile-loop.js'
import { redisReconcile } from '../recovery/redis-reconcile.js'
import { settingsFingerprint } from '../recovery/reset-policy.js'
import type { QueueRunner } from './queue-runner.js'
import type { RecoveryLines } from './recovery-lines.js'
import type { SessionHost } from './session-host.js'

export interface ReconcileWiring {
  readonly config: Config
  readonly queues: ReadonlyMap<string, QueueConfig>
  /** Queue → fingerprint of its settings. */
  readonly settings: ReadonlyMap<string, string>
  readonly runners: readonly QueueRunner[]
  /** `supervisor#incarnation`. */
  readonly owner: string
  readonly redis: Redis
  readonly board: BeatBoard
  readonly metrics: DispatchMetrics
  readonly lines: RecoveryLines
  readonly errors: Gatherer
  readonly log: Logger
  /** When a queue has sessions. */
  readonly host: SessionHost | undefined
}

/**
 * A lease lives so many intervals: it must outlast a late cycle, and a dead holder's must be over soon enough that
 * orphans are found within heartbeat.timeoutMs + two intervals.
 */
const LEASE_INTERVALS = 1.5
/** A batch is released so far ahead of the next cycle that the flow does not break off when that comes late, milliseconds. */
const AHEAD_OF_NEXT_MS = 1000

export function wireReconcile(wiring: ReconcileWiring): PollLoop {
  const { config, queues, runners, owner, redis, board, lines, errors, host } = wiring
  const { loops, heartbeat } = config
  const loop = board.loopWriter(queues.size)
  loop.state('polling')
  const port = redisReconcile({
    redis,
    keys: fleetKeys(config.redis.prefix),
    bullPrefix: config.redis.bullPrefix,
    owner,
    leaseMs: LEASE_INTERVALS * loops.pollIntervalMs,
    // Its looks are an interval apart, which is no pause of its own.
    observer: new Observer({ timeoutMs: heartbeat.timeoutMs, pauseMs: heartbeat.timeoutMs + loops.pollIntervalMs }),
    clock: systemClock,
    rulesOf: (queue) => rulesOf(wiring, queue),
  })
  return reconcileLoop({
    queues: [...queues.keys()],
    intervalMs: loops.pollIntervalMs,
    probe: boardLoopProbe(loop, board),
    onError: (error) => errors.add(`reconcile: ${messageOf(error)}`),
    onReaped: (queue, orphans) => sayReaped(wiring, queue, orphans),
    ...(host ? { onGhosts: (queue, judges) => host.findGhosts(queue, judges, port.beats) } : {}),
    onReset: (queue, by, count) => lines.reset(queue, by, [], count),
    onBreakers: async (queue, open) => {
      const runner = runners.find((candidate) => candidate.queue === queue)
      runner?.worker.ledger.breakers.learn(open)
      await runner?.worker.prove()
    },
    port,
  })
}

function rulesOf({ config, queues, settings }: ReconcileWiring, queue: string) {
  const queueConfig = queues.get(queue)
  if (!queueConfig) throw new Error(`queue ${queue}: not served here`)
  return {
    perSecond: queueConfig.release.perSecond,
    aheadMs: config.loops.pollIntervalMs + AHEAD_OF_NEXT_MS,
    attempts: queueConfig.attempts,
    settings: settings.get(queue) ?? '',
    probeMs: queueConfig.breaker.probeMs,
  }
}

function sayReaped({ metrics, log }: ReconcileWiring, queue: string, orphans: readonly Orphan[]): void {
  metrics.orphansReaped(queue, orphans.length)
  metrics.supervisorsLost(queue, orphans.filter(({ reason }) => reason === 'supervisor_lost').length)
  const [first] = orphans
  const jobs = orphans.length === 1 ? `job:${queue}/${first?.job.id ?? ''}` : `${orphans.length} jobs of ${queue}`
  const jobIds = orphans.slice(0, 20).map(({ job }) => job.id)
  log.warn(
    { event: 'orphan_reaped', queue, count: orphans.length, reason: first?.reason, jobIds },
    `ORPHANS REAPED ${jobs}: ${first?.message ?? ''}`,
  )
}

/** @returns queue → fingerprint of its settings; a file that cannot be read is one that is missing, and counts as such */
export async function readSettings(queues: readonly (readonly [string, QueueConfig])[]): Promise<Map<string, string>> {
  const read = queues.map(async ([queue, config]) => [queue, settingsFingerprint(config, await codeOf(config))] as const)
  return new Map(await Promise.all(read))
}

/** What runs the queue's jobs, the same on every host. */
async function codeOf({ handler, session }: QueueConfig): Promise<string> {
  const file = handler ?? session?.command ?? ''
  const content = isAbsolute(file) ? await readFile(file, 'latin1').catch(() => 'missing') : file
  if (!session) return content
  const { args, env, workspace, permanentExitCodes, tmux } = session
  return JSON.stringify([content, args, env, workspace.base, permanentExitCodes, tmux])
}
