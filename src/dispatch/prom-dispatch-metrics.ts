/** The supervisor's metrics: what its own attempts did, and how full its threads are. Seconds, no job ids in labels. */
import { Counter, Gauge, type Registry } from 'prom-client'
import type { BeatBoard } from '../heartbeat/beat-board.js'
import { LAUNCH_STEPS, type LaunchStep } from '../launch/session.js'
import { HotHistogram } from '../platform/prom-histogram.js'
import { OUTCOME_KINDS, type OutcomeKind } from './outcome.js'

export interface DispatchMetrics {
  readonly registry: Registry
  firstStart(queue: string, waitMs: number): void
  attemptEnded(queue: string, outcome: OutcomeKind, runMs: number): void
  orphansReaped(queue: string, count: number): void
  /** Attempts of others that ended with their supervisor. */
  supervisorsLost(queue: string, count: number): void
  /** Attempts were set back. @param by why, one of RESETS_BY */
  attemptsReset(queue: string, by: string, count: number): void
  launchRolledBack(queue: string, step: LaunchStep): void
}

/** From a no-op to an agent that works for hours, seconds. */
const DURATION_BUCKETS = [0.005, 0.05, 0.25, 1, 5, 30, 120, 600, 3600, 14_400]

/** @param resetsBy every reason for a reset, so that their series start at 0 */
export function dispatchMetrics(registry: Registry, board: BeatBoard, resetsBy: readonly string[]): DispatchMetrics {
  const reaped = new Counter({
    name: 'unstuck_orphans_reaped_total',
    help: 'Jobs taken back from an owner that was lost.',
    labelNames: ['queue'],
    registers: [registry],
  })
  const queues = board.layout.queues.map(({ name }) => name)
  const histogram = (name: string, help: string) => new HotHistogram(registry, name, help, 'queue', queues, DURATION_BUCKETS)
  const durations = histogram('unstuck_job_duration_seconds', 'How long attempts ran.')
  const waits = histogram('unstuck_job_wait_seconds', 'How long jobs waited for a slot.')
  const attempts = attemptCounts(registry, queues)
  const resets = new Counter({
    name: 'unstuck_attempt_resets_total',
    help: 'Jobs whose attempts this process set back, by reason.',
    labelNames: ['queue', 'by'],
    registers: [registry],
  })
  const rollbacks = new Counter({
    name: 'unstuck_launch_rollbacks_total',
    help: 'Launches of sessions that were refused and undone, by the step that failed.',
    labelNames: ['queue', 'step'],
    registers: [registry],
  })
  gauges(registry, board)
  for (const queue of queues) {
    reaped.inc({ queue }, 0)
    for (const by of resetsBy) resets.inc({ queue, by }, 0)
    for (const step of LAUNCH_STEPS) rollbacks.inc({ queue, step }, 0)
  }
  return {
    registry,
    firstStart: (queue, waitMs) => waits.observe(queue, waitMs / 1000),
    attemptEnded: (queue, outcome, runMs) => {
      attempts(queue, outcome, 1)
      durations.observe(queue, runMs / 1000)
    },
    orphansReaped: (queue, count) => reaped.inc({ queue }, count),
    supervisorsLost: (queue, count) => attempts(queue, 'supervisor_lost', count),
    attemptsReset: (queue, by, count) => resets.inc({ queue, by }, count),
    launchRolledBack: (queue, step) => rollbacks.inc({ queue, step }),
  }
}

/** Counted in plain objects, and handed to prom-client when somebody asks: the hot path hashes no labels. */
function attemptCounts(
  registry: Registry,
  queues: readonly string[],
): (queue: string, outcome: OutcomeKind, count: number) => void {
  const none = Object.fromEntries(OUTCOME_KINDS.map((kind) => [kind, 0])) as Record<OutcomeKind, number>
  const counts = new Map(queues.map((queue) => [queue, { ...none }]))
  new Counter({
    name: 'unstuck_attempts_total',
    help: 'Attempts that ended, by outcome.',
    labelNames: ['queue', 'outcome'],
    registers: [registry],
    collect() {
      this.reset()
      for (const [queue, byOutcome] of counts) {
        for (const outcome of OUTCOME_KINDS) this.inc({ queue, outcome }, byOutcome[outcome])
      }
    },
  })
  return (queue, outcome, count) => {
    const byOutcome = counts.get(queue)
    if (byOutcome) byOutcome[outcome] += count
  }
}

/** Read from the board when somebody asks. */
function gauges(registry: Registry, board: BeatBoard): void {
  new Gauge({
    name: 'unstuck_slots',
    help: 'Places for running jobs.',
    labelNames: ['queue', 'state'],
    registers: [registry],
    collect() {
      const jobs = board.readJobs()
      board.layout.queues.forEach(({ name: queue, slots }, index) => {
        const busy = jobs.filter((job) => job.queue === index).length
        this.set({ queue, state: 'busy' }, busy)
        this.set({ queue, state: 'free' }, Math.max(0, slots - busy))
      })
    },
  })
  new Gauge({
    name: 'unstuck_threads',
    help: 'Task threads.',
    labelNames: ['queue', 'state'],
    registers: [registry],
    collect() {
      const threads = board.readThreads()
      board.layout.queues.forEach(({ name: queue, threads: size }, index) => {
        const own = threads.filter((thread) => thread.queue === index)
        // One that was ended and cannot die keeps its cell, and its jobs; its successor is there beside it.
        const zombies = Math.max(0, own.length - size)
        const busy = Math.max(0, own.filter((thread) => thread.jobs > 0).length - zombies)
        this.set({ queue, state: 'busy' }, busy)
        this.set({ queue, state: 'parked' }, own.length - busy - zombies)
        this.set({ queue, state: 'zombie' }, zombies)
      })
    },
  })
}
