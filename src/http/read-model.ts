/**
 * The fleet as people and machines ask for it: supervisors with their loops, slots and jobs, queues, open incidents.
 * Read fresh from the store and put into the words of the API; it judges nothing that the watchdog has not judged, save
 * what a beat says of itself.
 */
import { type Beat, type LoopProgress, loopStaleness } from '../heartbeat/beat.js'
import type { QueueFacts } from '../heartbeat/queue-facts.js'
import type { SeenBeat } from '../heartbeat/seen-beat.js'
import type { Clock } from '../kernel/clock.js'
import type { Incident } from '../watchdog/incident.js'

export interface LoopView {
  readonly loop: string
  readonly queue?: string
  readonly state: string
  readonly phase: string
  readonly inFlight: boolean
  readonly cycles: number
  readonly skipped: number
  /** How long it has made no progress, past what it may block for; 0 while it rests on purpose. */
  readonly lagMs: number
  readonly thresholdMs: number
  readonly stale: boolean
  readonly lastStartedAt?: string
  readonly lastEndedAt?: string
}

export interface RunningJobView {
  readonly queue: string
  readonly id: string
  readonly attempt: number
  readonly thread: number
  readonly runningMs: number
  readonly silentMs: number
  /** Its session has shown no life yet. */
  readonly launching?: true
  readonly step?: string
  readonly stepMs?: number
}

export interface SupervisorView {
  readonly name: string
  /** `unreadable`: its record cannot be parsed. */
  readonly state: 'starting' | 'running' | 'draining' | 'stopped' | 'dead' | 'unreadable'
  readonly heartbeatAgeMs: number
  readonly incarnation?: string
  readonly group?: string
  readonly host?: string
  readonly pid?: number
  readonly version?: string
  readonly uptimeMs?: number
  readonly loops: readonly LoopView[]
  readonly slots: readonly {
    readonly queue: string
    readonly size: number
    readonly busy: number
    readonly eligible: boolean
  }[]
  readonly jobs: readonly RunningJobView[]
}

export interface FleetView {
  readonly supervisors: readonly SupervisorView[]
  readonly queues: readonly QueueFacts[]
  /** The open ones. */
  readonly incidents: readonly Incident[]
}

/** Where the fleet is read from. */
export interface FleetSource {
  /** All supervisors that live or died without a goodbye, and all queues that were ever served or added to. */
  names(): Promise<{ readonly supervisors: readonly string[]; readonly queues: readonly string[] }>
  readBeats(supervisors: readonly string[]): Promise<SeenBeat[]>
  readQueues(queues: readonly string[]): Promise<QueueFacts[]>
  listOpen(): Promise<readonly Incident[]>
}

export interface ReadModel {
  /** At most `CACHED_MS` old. @throws when the store cannot be read */
  readFleet(): Promise<FleetView>
}

/** Many who ask at once cost one reading. */
const CACHED_MS = 1000

/** @param queues the configured ones: shown also before anybody served them */
export function readModel(source: FleetSource, clock: Clock, queues: readonly string[] = []): ReadModel {
  let cached: { at: number; fleet: Promise<FleetView> } | undefined
  return {
    readFleet() {
      const now = clock.monotonicMs()
      if (cached && now - cached.at < CACHED_MS) return cached.fleet
      const fleet = readNow(source, queues)
      const entry = { at: now, fleet }
      cached = entry
      fleet.catch(() => {
        if (cached === entry) cached = undefined
      })
      return fleet
    },
  }
}

async function readNow(source: FleetSource, configured: readonly string[]): Promise<FleetView> {
  const names = await source.names()
  const queueNames = [...new Set([...configured, ...names.queues])].sort()
  const [beats, queues, incidents] = await Promise.all([
    source.readBeats([...names.supervisors].sort()),
    source.readQueues(queueNames),
    source.listOpen(),
  ])
  return { supervisors: beats.map(readableView), queues, incidents }
}

/** So many groups are named before they are counted. */
const NAMED_GROUPS = 3

/** For a narrow column: `open`, `open: acme, zeta`, `open: 12 groups`; empty when every breaker is closed. */
export function breakerText(groups: readonly string[]): string {
  if (groups.length === 0) return ''
  if (groups.length > NAMED_GROUPS) return `open: ${groups.length} groups`
  const named = groups.map((group) => (group === '' ? '(no group)' : group)).join(', ')
  return named === '(no group)' ? 'open' : `open: ${named}`
}

function readableView(seen: SeenBeat): SupervisorView {
  try {
    return supervisorView(seen)
  } catch {
    return supervisorView({ ...seen, beat: undefined, broken: 'not the form of a beat' })
  }
}

function supervisorView(seen: SeenBeat): SupervisorView {
  const { supervisor: name, beat, incarnation } = seen
  const known = {
    name,
    state: stateOf(seen),
    heartbeatAgeMs: Math.max(0, seen.ageMs),
    ...(incarnation === undefined ? {} : { incarnation }),
  }
  if (!beat) return { ...known, loops: [], slots: [], jobs: [] }
  const { group, host, pid, version, uptimeMs } = beat
  return {
    ...known,
    ...(group === undefined ? {} : { group }),
    host,
    pid,
    version,
    uptimeMs,
    loops: beat.loops.map((loop) => loopView(loop, seen)),
    slots: beat.queues.map(({ queue, slots, busy, eligible }) => ({ queue, size: slots, busy, eligible })),
    jobs: beat.jobs.map(jobView),
  }
}

function stateOf(seen: SeenBeat): SupervisorView['state'] {
  if (seen.broken !== undefined) return 'unreadable'
  if (seen.bye) return 'stopped'
  if (seen.overdueMs > 0 || seen.incarnation === undefined) return 'dead'
  return seen.beat?.state ?? 'starting'
}

function loopView(loop: LoopProgress, seen: SeenBeat): LoopView {
  const staleness = loopStaleness(loop)
  const { queue, startedAt, endedAt, cycles, skipped, inFlight, phase, state, thresholdMs } = loop
  return {
    loop: loop.loop,
    ...(queue === undefined ? {} : { queue }),
    ...{ state, phase, inFlight, cycles, skipped, thresholdMs },
    lagMs: staleness ? staleness.ageMs + Math.max(0, seen.ageMs) : 0,
    stale: staleness !== undefined && staleness.ageMs > staleness.thresholdMs,
    ...(startedAt === undefined ? {} : { lastStartedAt: new Date(startedAt).toISOString() }),
    ...(endedAt === undefined ? {} : { lastEndedAt: new Date(endedAt).toISOString() }),
  }
}

function jobView(job: Beat['jobs'][number]): RunningJobView {
  const { queue, id, attempt, thread, runningMs, silentMs, step, stepMs, launching } = job
  const inStep = { ...(step === undefined ? {} : { step }), ...(stepMs === undefined ? {} : { stepMs }) }
  return { queue, id, attempt, thread, runningMs, silentMs, ...inStep, ...(launching ? { launching } : {}) }
}
