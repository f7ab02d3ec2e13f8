/**
 * The answer of /api/v1/health. Pure. It errs on the side of not knowing: no answer of the store, or a watchdog that may
 * not judge, is `unknown` and never `ok`.
 */
import { subjectOf } from '../heartbeat/beat.js'
import type { Incident } from '../watchdog/incident.js'
import { age } from '../watchdog/report.js'
import type { WatchView } from '../watchdog/watch-loop.js'
import type { FleetView, LoopView } from './read-model.js'

export type HealthStatus = 'ok' | 'stuck' | 'wedged' | 'unknown'

export interface HealthView {
  readonly status: HealthStatus
  readonly pollStale: boolean
  readonly hasStuckQueue: boolean
  /** Of the troubled loops when there are some, else of all; absent before any poll. To show, not to compare. */
  readonly lastPollStartedAt?: string
  readonly lastPollCompletedAt?: string
  readonly pollStaleThresholdMs: number
  readonly queues: readonly {
    readonly name: string
    readonly waiting: number
    readonly active: number
    readonly eligible: number
    readonly stuck: boolean
    readonly exhausted: number
    readonly breakersOpen: readonly string[]
  }[]
  readonly supervisors: readonly { name: string; state: string; heartbeatAgeMs: number }[]
  readonly incidents: readonly Incident[]
  readonly error?: string
}

export interface HealthInput {
  /** Undefined: the store could not be read in time. */
  readonly fleet: FleetView | undefined
  readonly watch: WatchView
  readonly pollStaleThresholdMs: number
}

const wedging: ReadonlySet<string> = new Set(['process', 'event_loop', 'loop'])
const ofPolling: ReadonlySet<string> = new Set(['poll_stale', 'never_polled'])

export function healthView({ fleet, watch, pollStaleThresholdMs }: HealthInput): HealthView {
  const incidents = [...(watch.outage ? [watch.outage] : []), ...(fleet?.incidents ?? [])]
  const stuckQueues = new Set(incidents.filter(({ subjectKind }) => subjectKind === 'queue').map(({ queue }) => queue))
  const error = unknownBecause(fleet, watch)
  return {
    status: statusOf(incidents, error),
    pollStale: incidents.some(({ cause }) => ofPolling.has(cause)),
    hasStuckQueue: stuckQueues.size > 0,
    ...pollTimes(fleet, incidents),
    pollStaleThresholdMs,
    queues: (fleet?.queues ?? []).map(({ queue, waiting, active, eligible, exhausted, breakersOpen }) => ({
      name: queue,
      ...{ waiting, active, eligible, stuck: stuckQueues.has(queue), exhausted, breakersOpen },
    })),
    supervisors: (fleet?.supervisors ?? []).map(({ name, state, heartbeatAgeMs }) => ({ name, state, heartbeatAgeMs })),
    incidents,
    ...(error === undefined ? {} : { error }),
  }
}

function statusOf(incidents: readonly Incident[], error: string | undefined): HealthStatus {
  if (error !== undefined) return 'unknown'
  if (incidents.some(({ subjectKind }) => wedging.has(subjectKind))) return 'wedged'
  return incidents.length > 0 ? 'stuck' : 'ok'
}

/** Why nothing can be said; undefined when something can. */
function unknownBecause(fleet: FleetView | undefined, { sight, outage }: WatchView): string | undefined {
  if (outage || sight.reason === 'unreachable') return 'Redis cannot be read: all verdicts are suspended'
  if (!fleet) return 'Redis did not answer in time'
  if (sight.reason === undefined) return undefined
  // What was found before a restart holds until it is known to be over.
  if (sight.reason === 'starting')
    return fleet.incidents.length > 0 ? undefined : 'the watchdog has started and has not judged yet'
  return `the watchdog judges nobody (${sight.reason}), since ${age(sight.blindForMs)}`
}

function pollTimes(
  fleet: FleetView | undefined,
  incidents: readonly Incident[],
): Pick<HealthView, 'lastPollStartedAt' | 'lastPollCompletedAt'> {
  const loops =
    fleet?.supervisors.flatMap(({ name, loops: own }) => own.map((loop) => ({ ...loop, subject: loopSubject(name, loop) }))) ??
    []
  const troubled = new Set(incidents.filter(({ cause }) => ofPolling.has(cause)).map(({ subject }) => subject))
  const shown = loops.some(({ subject }) => troubled.has(subject))
    ? loops.filter(({ subject }) => troubled.has(subject))
    : loops
  const started = latest(shown.map(({ lastStartedAt }) => lastStartedAt))
  const completed = latest(shown.map(({ lastEndedAt }) => lastEndedAt))
  return {
    ...(started === undefined ? {} : { lastPollStartedAt: started }),
    ...(completed === undefined ? {} : { lastPollCompletedAt: completed }),
  }
}

function loopSubject(supervisor: string, { loop, queue }: LoopView): string {
  return subjectOf.loop(supervisor, loop, queue)
}

function latest(times: readonly (string | undefined)[]): string | undefined {
  return times
    .filter((time) => time !== undefined)
    .sort()
    .at(-1)
}
