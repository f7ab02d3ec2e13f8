/**
 * The watchdog in Prometheus. Gauges show what the store says and are the same in every watchdog; counters and
 * histograms count what this process itself did, so that sums over replicas are true. No job id is ever a label.
 */
import { Counter, Gauge, Histogram, type Registry } from 'prom-client'
import { CAUSES, type Cause, type SubjectKind } from '../heartbeat/beat.js'
import type { LoopLag, SupervisorLags } from '../heartbeat/beat-lags.js'
import type { QueueFacts } from '../heartbeat/queue-facts.js'
import { FreshGauge, labelText, textOf } from '../platform/prom-series.js'
import { bounded, MOST_QUEUES, MOST_SERIES } from './bounded.js'
import { DUMP_OUTCOMES, type DumpOutcome } from './dump-note.js'
import type { Incident } from './incident.js'
import type { WatchTelemetry } from './watch-loop.js'

/** What the gauges show; read at the scrape. */
export interface FleetGauges {
  readonly supervisors: readonly SupervisorLags[]
  readonly queues: readonly QueueFacts[]
  readonly incidents: readonly Incident[]
}

export interface WatchdogMetrics extends WatchTelemetry {
  readonly registry: Registry
  dumpAsked(outcome: DumpOutcome): void
  /** Fills the gauges. @param fleet undefined: unknown now; what was shown before is taken away rather than repeated */
  show(fleet: FleetGauges | undefined, redisUp: boolean): void
  /** What it shows, in the text format. */
  text(): Promise<string>
}

const kindOf: Readonly<Record<Cause, SubjectKind>> = {
  process_dead: 'process',
  loop_blocked: 'event_loop',
  poll_stale: 'loop',
  never_polled: 'loop',
  lock_late: 'loop',
  thread_blocked: 'thread',
  job_silent: 'job',
  launch_overdue: 'job',
  no_eligible_worker: 'queue',
  queue_not_moving: 'queue',
  scheduler_overdue: 'queue',
  redis_unreachable: 'redis',
  watchdog_blind: 'watchdog',
  watchdog_lost: 'watchdog',
}

/** @param queues the configured ones: their series start at 0 */
export function promWatchdogMetrics(registry: Registry, queues: readonly string[]): WatchdogMetrics {
  const counts = countersOf(registry)
  const gauges = gaugesOf(registry)
  showStart(gauges, queues)
  return {
    registry,
    text: () => textOf(registry),
    cycleEnded(durationMs) {
      counts.cycle.observe(durationMs / 1000)
      counts.lastCycle.set(Date.now() / 1000)
    },
    lineWritten({ event, incident }) {
      if (event !== 'flapping') counts.transitions.inc({ cause: incident.cause, to: event })
    },
    detected(lateByMs) {
      counts.detection.observe(Math.max(0, lateByMs) / 1000)
    },
    dumpAsked(outcome) {
      counts.dumps.inc({ outcome })
    },
    show(fleet, redisUp) {
      for (const gauge of Object.values(gauges)) gauge.reset()
      showStart(gauges, queues)
      gauges.redisUp.set(redisUp ? 1 : 0)
      if (fleet) showFleet(gauges, fleet, queues)
    },
  }
}

function countersOf(registry: Registry) {
  const registers = [registry]
  const transitions = new Counter({
    name: 'unstuck_transitions_total',
    help: 'STUCK and RESUMED lines that this watchdog wrote',
    labelNames: ['cause', 'to'],
    registers,
  })
  for (const cause of CAUSES) {
    for (const to of ['stuck', 'resumed']) transitions.inc({ cause, to }, 0)
  }
  const dumps = new Counter({
    name: 'unstuck_stack_dumps_total',
    help: 'Stack dumps that this watchdog asked for, by what came of it',
    labelNames: ['outcome'],
    registers,
  })
  for (const outcome of DUMP_OUTCOMES) dumps.inc({ outcome }, 0)
  const detection = new Histogram({
    name: 'unstuck_detection_seconds',
    help: 'From the moment when a threshold was passed to the opening of the incident',
    buckets: [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
    registers,
  })
  const cycle = new Histogram({
    name: 'unstuck_watchdog_cycle_seconds',
    help: 'Duration of the watchdog cycles',
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5],
    registers,
  })
  const lastCycle = new Gauge({
    name: 'unstuck_watchdog_last_cycle_timestamp_seconds',
    help: 'When the last watchdog cycle ended',
    registers,
  })
  return { transitions, dumps, detection, cycle, lastCycle }
}

type Gauges = ReturnType<typeof gaugesOf>

function gaugesOf(registry: Registry) {
  const gauge = <L extends string>(name: string, help: string, labelNames: L[]) =>
    new Gauge<L>({ name: `unstuck_${name}`, help, labelNames, registers: [registry] })
  const fresh = (name: string, help: string) => new FreshGauge(registry, `unstuck_${name}`, help)
  return {
    pollLag: fresh('poll_lag_seconds', 'How long a loop has made no progress, past what it may block for'),
    pollStale: fresh('poll_stale', '1 while a loop is past its threshold'),
    heartbeatAge: fresh('heartbeat_age_seconds', 'Age of the last beat'),
    seriesDropped: gauge('series_dropped', 'Supervisors, loops and queues beyond what is shown here', ['of']),
    stuck: gauge('stuck', 'Open incidents', ['subject_kind', 'cause']),
    queueJobs: gauge('queue_jobs', 'Jobs in a queue by state', ['queue', 'state']),
    oldestWaiting: gauge('queue_oldest_waiting_seconds', 'Age of the job that is next in line', ['queue']),
    queueStuck: gauge('queue_stuck', '1 while a queue has an open incident', ['queue']),
    eligibleWorkers: gauge('eligible_workers', 'Live supervisors that take jobs of a queue', ['queue']),
    jobsExhausted: gauge('jobs_exhausted', 'Jobs out of attempts that come back by themselves', ['queue']),
    breakerOpen: gauge('breaker_open', 'Groups of a queue whose breaker is not closed', ['queue']),
    redisUp: gauge('redis_up', '1 while this watchdog can read Redis', []),
  }
}

function showStart(gauges: Gauges, queues: readonly string[]): void {
  for (const cause of CAUSES) gauges.stuck.set({ subject_kind: kindOf[cause], cause }, 0)
  for (const of of ['supervisors', 'loops', 'queues']) gauges.seriesDropped.set({ of }, 0)
  for (const queue of queues) for (const gauge of ofQueues(gauges)) gauge.set({ queue }, 0)
}

/** Of every queue there is something to say, also before anybody measured it. */
function ofQueues({ queueStuck, jobsExhausted, breakerOpen }: Gauges) {
  return [queueStuck, jobsExhausted, breakerOpen]
}

function showFleet(gauges: Gauges, { supervisors, queues, incidents }: FleetGauges, configured: readonly string[]): void {
  showSupervisors(gauges, supervisors)
  const first = new Set(configured)
  const { kept, dropped } = bounded(queues, MOST_QUEUES, ({ queue, waiting, active }) =>
    first.has(queue) ? Number.POSITIVE_INFINITY : waiting + active,
  )
  gauges.seriesDropped.set({ of: 'queues' }, dropped)
  for (const facts of kept) showQueue(gauges, facts)
  const shown = new Set(kept.map(({ queue }) => queue))
  for (const { subjectKind, cause, queue } of incidents) {
    gauges.stuck.inc({ subject_kind: subjectKind, cause })
    if (subjectKind === 'queue' && queue !== undefined && shown.has(queue)) gauges.queueStuck.set({ queue }, 1)
  }
}

/** Beyond the bound the troubled stay: the most silent supervisors, the loops that are stale or furthest behind. */
function showSupervisors(gauges: Gauges, supervisors: readonly SupervisorLags[]): void {
  const beating = bounded(supervisors, MOST_SERIES, ({ heartbeatAgeMs }) => heartbeatAgeMs)
  for (const { name, heartbeatAgeMs } of beating.kept) {
    gauges.heartbeatAge.set(labelText({ supervisor: name }), heartbeatAgeMs / 1000)
  }
  const loops = bounded(
    supervisors.flatMap(({ name, loops: own }) => own.map((lag) => ({ name, lag }))),
    MOST_SERIES,
    ({ lag: [, , lagMs, stale] }) => (stale ? Number.MAX_SAFE_INTEGER : lagMs),
  )
  for (const { name, lag } of loops.kept) showLoop(gauges, name, lag)
  gauges.seriesDropped.set({ of: 'supervisors' }, beating.dropped)
  gauges.seriesDropped.set({ of: 'loops' }, loops.dropped)
}

function showLoop({ pollLag, pollStale }: Gauges, supervisor: string, [loop, queue, lagMs, stale]: LoopLag): void {
  const labels = labelText({ supervisor, loop, queue })
  pollLag.set(labels, lagMs / 1000)
  pollStale.set(labels, stale)
}

function showQueue(gauges: Gauges, facts: QueueFacts): void {
  const { queue, waiting, active, delayed, completed, failed } = facts
  for (const [state, jobs] of Object.entries({ waiting, active, delayed, completed, failed })) {
    gauges.queueJobs.set({ queue, state }, jobs)
  }
  gauges.oldestWaiting.set({ queue }, Math.max(0, facts.headAgeMs ?? 0) / 1000)
  gauges.eligibleWorkers.set({ queue }, facts.eligible)
  gauges.queueStuck.set({ queue }, 0)
  gauges.jobsExhausted.set({ queue }, facts.exhausted)
  gauges.breakerOpen.set({ queue }, facts.breakersOpen.length)
}
