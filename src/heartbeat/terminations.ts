/**
 * Which stuck jobs of `onStuck: terminate` queues are to be ended now. Pure but for its memory.
 *
 * A job is ended only after the store has taken two beats that call it late, in a row and at least one interval apart:
 * by then every watchdog had the chance to see and say it, and nothing is killed for what an outage did.
 */
import type { Beat, JobProgress, Late } from './beat.js'
import type { TerminateOrder } from './sentinel-protocol.js'

export class Terminations {
  /** Since when the store has known of it, monotonic milliseconds. */
  readonly #known = new Map<string, number>()
  readonly #ordered = new Set<string>()

  /** What is not late any more starts from the beginning when it falls late again. */
  sampled(beat: Beat, late: readonly Late[]): void {
    const now = new Set(candidatesIn(beat, late).map(keyOf))
    for (const key of this.#known.keys()) {
      if (!now.has(key)) this.#known.delete(key)
    }
    const running = new Set(beat.jobs.map(({ queue, id, attempt }) => JSON.stringify([queue, id, attempt])))
    for (const key of this.#ordered) {
      if (!running.has(jobPartOf(key))) this.#ordered.delete(key)
    }
  }

  /** The store has taken this beat. @returns what is to be ended, each job of a thread once */
  accepted(beat: Beat, late: readonly Late[], now: number): TerminateOrder[] {
    const orders: TerminateOrder[] = []
    for (const order of candidatesIn(beat, late)) {
      const key = keyOf(order)
      const since = this.#known.get(key) ?? now
      this.#known.set(key, since)
      if (now - since < beat.intervalMs || this.#ordered.has(key)) continue
      this.#ordered.add(key)
      orders.push(order)
    }
    return orders
  }

  /** A beat did not arrive. */
  refused(): void {
    this.#known.clear()
  }
}

function keyOf({ queue, thread, generation, jobId, attempt }: TerminateOrder): string {
  return JSON.stringify([queue, jobId, attempt, thread, generation])
}

function jobPartOf(key: string): string {
  return JSON.stringify((JSON.parse(key) as unknown[]).slice(0, 3))
}

/** Late jobs on threads, or in processes of their own, that can be killed. A blocked thread explains the silence of all its jobs but the suspect. */
function candidatesIn(beat: Beat, late: readonly Late[]): TerminateOrder[] {
  const terminating = new Set(beat.queues.filter(({ onStuck }) => onStuck === 'terminate').map(({ queue }) => queue))
  if (terminating.size === 0) return []
  const blocked = new Set(late.filter(({ kind }) => kind === 'thread').map(placeOf))
  return late.flatMap((one) => {
    if (one.queue === undefined || !terminating.has(one.queue)) return []
    if (one.kind !== 'thread' && (one.kind !== 'job' || blocked.has(placeOf(one)))) return []
    return orderOf(beat.jobs, one)
  })
}

function placeOf({ queue, thread }: Late): string {
  return `${queue ?? ''}:${thread ?? 0}`
}

function orderOf(jobs: readonly JobProgress[], late: Late): TerminateOrder[] {
  const { queue, thread, generation, jobId, attempt, cause, ageMs } = late
  const job = jobs.find((candidate) => candidate.queue === queue && candidate.id === jobId && candidate.attempt === attempt)
  // A job that no thread has begun, or a thread without a known job: there is nobody to charge and nothing to kill.
  if (!job || (!job.alone && (!thread || generation === undefined))) return []
  return [
    {
      queue: job.queue,
      thread: thread ?? 0,
      generation: generation ?? 0,
      jobId: job.id,
      attempt: job.attempt,
      fence: job.fence,
      cause,
      ageMs,
    },
  ]
}
