/**
 * What of a BullMQ Worker is looked at: the same names in 5.x and 6.x, read off its source (5.81.5, 6.1.0 and 6.7.0), most of
 * them private there. A test runs against all three, and `watchWorker` refuses a worker that lacks what it needs.
 */
import { UserError } from '../kernel/errors.js'

/** Any BullMQ Worker, of whichever copy and version of BullMQ. */
export interface WatchableWorker {
  readonly name: string
  close(force?: boolean): Promise<void>
}

export interface WorkerInternals extends WatchableWorker {
  readonly opts: {
    readonly connection?: unknown
    readonly lockDuration?: number
    readonly skipLockRenewal?: boolean
    readonly drainDelay?: number
  }
  readonly concurrency: number
  readonly running: boolean
  readonly paused?: unknown
  readonly closing?: unknown
  readonly limitUntil: number
  /** The blocking wait in flight. */
  readonly waiting: Promise<unknown> | null
  readonly lockManager?: { readonly trackedJobs?: ReadonlyMap<string, unknown> }
  /** Only of sandboxed processors. */
  readonly childPool?: object
  /** What speaks with Redis: `backend` since 6, `scripts` before. */
  readonly backend?: object
  readonly scripts?: object
  getBlockTimeout(blockUntil: number): number
  on(name: 'progress', listener: (job: { readonly id?: string }) => void): unknown
  off(name: 'progress', listener: (job: { readonly id?: string }) => void): unknown
}

export interface ProcessedJob {
  readonly id?: string
  readonly name: string
  readonly data: unknown
  readonly attemptsMade: number
  /** Since BullMQ 5. */
  readonly attemptsStarted?: number
}

const NEEDED = ['callProcessJob', 'waitForJob', 'getBlockTimeout', 'close', 'on', 'off'] as const

/** @throws UserError CONFIG_INVALID when it is no Worker that can be watched */
export function internalsOf(worker: WatchableWorker): { worker: WorkerInternals; store: object } {
  const missing = NEEDED.filter((name) => typeof Reflect.get(worker, name) !== 'function')
  const internals = worker as WorkerInternals
  const store = internals.backend ?? internals.scripts
  if (missing.length === 0 && store) return { worker: internals, store }
  throw new UserError(
    'CONFIG_INVALID',
    `watchWorker: this is no Worker of BullMQ 5 or 6 (it has no ${missing[0] ?? 'backend'}); give it the Worker itself`,
  )
}
