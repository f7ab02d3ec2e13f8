/** How the board is laid out: which words belong to whom. Only the board itself reads and writes them. */

/** All that a thread needs to use the board; may be posted to it. */
export interface BoardHandle {
  readonly buffer: SharedArrayBuffer
  readonly layout: BoardLayout
  /** Monotonic milliseconds at which the board was made. */
  readonly epochMs: number
}

export interface QueueLayout {
  readonly name: string
  /** Size of its thread pool. */
  readonly threads: number
  /** Jobs that it runs at a time. */
  readonly slots: number
}

export interface LoopLayout {
  /** `fetch`, `reconcile`, or the name of a loop that is not ours; '' for a place that is not taken. */
  readonly loop: string
  readonly queue?: string
  /** Place of its queue in `queues`, where two bear one name. Default: the first of that name. */
  readonly queueIndex?: number
  /** Its own thresholds, milliseconds. Default: the process's. */
  readonly thresholdMs?: number
  readonly graceMs?: number
}

export interface BoardLayout {
  readonly queues: readonly QueueLayout[]
  readonly loops: readonly LoopLayout[]
  /** Phases that have no word in `PHASES`: names that a user gave. */
  readonly phases?: readonly string[]
  /** A board whose queues and loops come and go keeps room for so many, and for so many running jobs. Default: what is laid out. */
  readonly reserve?: { readonly queues: number; readonly loops: number; readonly jobs: number }
}

/** What a loop can be doing; the board keeps the index. */
export const PHASES = [
  '',
  'waitForJob',
  'moveToActive',
  'moveToFinished',
  'moveToDelayed',
  'retryJob',
  'verifyClaim',
  'lease',
  'measure',
  'find orphans',
  'reap',
  'ghosts',
  'close',
] as const
export type Phase = (typeof PHASES)[number]

/** Why a job's signal aborts. 0: it does not. */
export const ABORT_REASONS = ['', 'cancelled', 'lost its lock', 'the supervisor is shutting down'] as const
export type AbortReason = Exclude<(typeof ABORT_REASONS)[number], ''>

export const HEADER = { mainTick: 0, state: 1, size: 8 } as const
export const QUEUE = { slotFreed: 0, size: 1 } as const
export const LOOP = {
  state: 0,
  stateSince: 1,
  cycles: 2,
  skipped: 3,
  inFlight: 4,
  since: 5,
  everEnded: 6,
  ended: 7,
  phase: 8,
  limit: 9,
  limitedUntil: 10,
  size: 12,
} as const
export const THREAD = { state: 0, generation: 1, threadId: 2, tick: 3, jobs: 4, tid: 5, size: 8 } as const
export const JOB = {
  claim: 0,
  live: 1,
  queue: 2,
  thread: 3,
  fence: 4,
  attempt: 5,
  started: 6,
  alive: 7,
  stepSince: 8,
  lockSince: 9,
  abort: 10,
  idLength: 11,
  stepLength: 12,
  stepVersion: 13,
  size: 16,
} as const

/**
 * In the place of a job's thread cell: no thread yet; none at all since it runs in a process of its own; such a process is
 * being started; it runs on the main thread, where only jobs of watched workers do.
 */
export const NO_THREAD = -1
export const ALONE = -2
export const LAUNCHING = -3
export const ON_MAIN = -4

/** Jobs that are being handed over still hold a cell while the next ones begin. */
const SPARE_JOB_CELLS = 8

/** A queue's own thread cells, first (inclusive) to end (exclusive). */
export interface ThreadRange {
  readonly first: number
  readonly end: number
}

/** Where each part begins, in words, and how many cells there are. */
export interface BoardPlan {
  readonly queuesAt: number
  readonly loopsAt: number
  readonly threadsAt: number
  readonly jobsAt: number
  readonly words: number
  readonly threadRanges: readonly ThreadRange[]
  readonly jobCells: number
}

export function planOf(layout: BoardLayout): BoardPlan {
  const threadRanges: ThreadRange[] = []
  let threadCells = 0
  // A board with a reserve is one without threads: its parts must not move when a queue comes.
  for (const { threads } of layout.reserve ? [] : layout.queues) {
    // Killed threads may linger while their successors run: room for a whole pool of them, and a little more.
    const range = { first: threadCells, end: threadCells + threads * 2 + 2 }
    threadRanges.push(range)
    threadCells = range.end
  }
  // Without threads its jobs are sessions: those that are adopted come on top of what was fetched meanwhile.
  const cellsOf = ({ threads, slots }: QueueLayout) => (threads === 0 ? 2 * slots : slots)
  const jobCells = layout.reserve?.jobs ?? layout.queues.reduce((sum, queue) => sum + cellsOf(queue), SPARE_JOB_CELLS)
  const queuesAt = HEADER.size
  const loopsAt = queuesAt + (layout.reserve?.queues ?? layout.queues.length) * QUEUE.size
  const threadsAt = loopsAt + (layout.reserve?.loops ?? layout.loops.length) * LOOP.size
  const jobsAt = threadsAt + threadCells * THREAD.size
  return { queuesAt, loopsAt, threadsAt, jobsAt, words: jobsAt + jobCells * JOB.size, threadRanges, jobCells }
}
