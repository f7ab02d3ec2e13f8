/**
 * The reconcile loop of one supervisor: for each of its queues, under a lease so that one supervisor does it at a time,
 * it takes orphans back and releases what may run again. Its own progress is a loop on the board like any other.
 *
 * It never judges while its own sight is in doubt, and it never touches a job that somebody claimed since it looked.
 * A queue in which something cannot be done does not keep the others waiting.
 */
import type { Sight } from '../heartbeat/observer.js'
import type { SeenBeat } from '../heartbeat/seen-beat.js'
import { type LoopProbe, PollLoop } from '../kernel/poll-loop.js'
import { type ActiveJob, type Orphan, OrphanFinder, parseOwner } from './orphan-policy.js'
import { type ReleasePort, releaseJobs } from './release-phases.js'
import type { ResetBy } from './reset-policy.js'
import { SweepPlan } from './sweep-plan.js'

/** What the loop needs of the store. Every call must give up by itself. */
export interface ReconcilePort extends ReleasePort {
  /** Looks at the store's clock and memory; a failed look is told too, and throws. */
  look(): Promise<Sight>
  /** The own monotonic clock, milliseconds. */
  now(): number
  /** @returns the groups ('' for jobs without one) of the queue whose breaker is open */
  openBreakers(queue: string): Promise<readonly string[]>
  /** @returns group ('' for none) → number of the last death there after which a supervisor was seen again */
  restarts(): Promise<ReadonlyMap<string, number>>
  /** @returns whether this supervisor reconciles the queue now */
  lease(queue: string): Promise<boolean>
  activeJobs(queue: string): Promise<ActiveJob[]>
  beats(supervisors: readonly string[]): Promise<Map<string, SeenBeat>>
  /** @returns whether it was still there to take */
  reap(queue: string, orphan: Orphan): Promise<boolean>
}

export interface ReconcileLoopOptions {
  readonly queues: readonly string[]
  readonly intervalMs: number
  readonly port: ReconcilePort
  readonly probe: LoopProbe
  readonly onReaped: (queue: string, orphans: readonly Orphan[]) => void
  readonly onReset: (queue: string, by: ResetBy, count: number) => void
  /** Told each cycle, whoever holds the lease: the groups whose breaker is open. */
  readonly onBreakers: (queue: string, open: readonly string[]) => Promise<void> | void
  readonly onError: (error: unknown) => void
  /** Queues of sessions: cleans up on this host, whoever holds the lease. @param judges whether silence proves anything now */
  readonly onGhosts?: (queue: string, judges: boolean) => Promise<void>
}

/** What one supervisor remembers of a queue from cycle to cycle. */
interface QueueMemory {
  readonly queue: string
  readonly finder: OrphanFinder
  readonly plan: SweepPlan
}

interface Cycle {
  readonly sight: Sight
  readonly restarts: ReadonlyMap<string, number>
  readonly phase: (name: string) => void
}

/** How long a stop waits for the cycle in flight, milliseconds. */
const STOP_TIMEOUT_MS = 2000

export function reconcileLoop(options: ReconcileLoopOptions): PollLoop {
  const { queues, intervalMs, port, probe, onError } = options
  const memories = queues.map((queue): QueueMemory => ({ queue, finder: new OrphanFinder(), plan: new SweepPlan() }))
  return new PollLoop({
    intervalMs,
    stopTimeoutMs: STOP_TIMEOUT_MS,
    probe,
    onError,
    cycle: async (phase) => {
      const sight = await port.look()
      const restarts = await port.restarts()
      for (const memory of memories) {
        await reconcileQueue(options, memory, { sight, restarts, phase }).catch(onError)
      }
    },
  })
}

async function reconcileQueue(options: ReconcileLoopOptions, memory: QueueMemory, cycle: Cycle): Promise<void> {
  const { port, onBreakers, onReset } = options
  const { queue, plan } = memory
  const { sight, phase, restarts } = cycle
  phase('breakers')
  await onBreakers(queue, await port.openBreakers(queue))
  // Before the orphans: what is adopted is none.
  if (options.onGhosts) {
    phase('ghosts')
    await options.onGhosts(queue, sight.judges === 'all')
  }
  phase('lease')
  if (!(await port.lease(queue))) return forget(memory)
  // Whoever may not judge changes nothing, but keeps the lease: the next one would know no more.
  if (sight.judges !== 'all') return memory.finder.forget()
  await reapOrphans(options, memory, phase)
  await releaseJobs({ port, queue, plan, restarts, phase, onReset })
}

function forget({ finder, plan }: QueueMemory): void {
  finder.forget()
  plan.startOver()
}

async function reapOrphans(
  { port, onReaped }: ReconcileLoopOptions,
  { queue, finder }: QueueMemory,
  phase: (name: string) => void,
): Promise<void> {
  phase('find orphans')
  const jobs = await port.activeJobs(queue)
  const owners = new Set(jobs.flatMap((job) => parseOwner(job.owner)?.supervisor ?? []))
  const beats = await port.beats([...owners])
  const orphans = finder.find(jobs, queue, (supervisor) => beats.get(supervisor), port.now())
  phase('reap')
  const taken: Orphan[] = []
  for (const orphan of orphans) {
    if (await port.reap(queue, orphan)) taken.push(orphan)
  }
  if (taken.length > 0) onReaped(queue, taken)
}
