/**
 * The reconcile loop of one supervisor: for each of its queues, under a lease so that one supervisor does it at a time,
 * it measures the queue and takes orphans back. Its own progress is a loop on the board like any other.
 *
 * It never judges while its own sight is in doubt, and it never touches a job that somebody claimed since it looked.
 */
import type { Sight } from '../heartbeat/observer.js'
import type { SeenBeat } from '../heartbeat/seen-beat.js'
import { type LoopProbe, PollLoop } from '../kernel/poll-loop.js'
import { type ActiveJob, type Orphan, OrphanFinder, parseOwner } from './orphan-policy.js'

/** What the loop needs of the store. Every call must give up by itself. */
export interface ReconcilePort {
  /** Looks at the store's clock and memory; a failed look is told too, and throws. */
  look(): Promise<Sight>
  /** The own monotonic clock, milliseconds. */
  now(): number
  /** @returns whether this supervisor reconciles the queue now */
  lease(queue: string): Promise<boolean>
  /** Measures the queue and leaves the result for others to read. */
  measure(queue: string): Promise<void>
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
  readonly onError: (error: unknown) => void
}

/** How long a stop waits for the cycle in flight, milliseconds. */
const STOP_TIMEOUT_MS = 2000

export function reconcileLoop(options: ReconcileLoopOptions): PollLoop {
  const { queues, intervalMs, port, probe, onError } = options
  const finders = new Map(queues.map((queue) => [queue, new OrphanFinder()]))
  return new PollLoop({
    intervalMs,
    stopTimeoutMs: STOP_TIMEOUT_MS,
    probe,
    onError,
    cycle: async (phase) => {
      const sight = await port.look()
      for (const [queue, finder] of finders) {
        phase('lease')
        if (!(await port.lease(queue))) {
          finder.forget()
          continue
        }
        phase('measure')
        await port.measure(queue)
        await reapOrphans(options, queue, finder, sight, phase)
      }
    },
  })
}

async function reapOrphans(
  { port, onReaped }: ReconcileLoopOptions,
  queue: string,
  finder: OrphanFinder,
  sight: Sight,
  phase: (name: string) => void,
): Promise<void> {
  if (sight.judges !== 'all') {
    finder.forget()
    return
  }
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
