/**
 * The running jobs of one watched worker, with their locks' ages. A processor of the same process shows its steps and
 * heartbeats (`unstuck/handler`), a sandboxed one only the child that it runs in.
 *
 * A job gets its cell on the board when its processor is called, or, when there are many of them, at its first word or the
 * next tick: one that is over before then costs a note in a table, and nobody would have seen it.
 */
import { ThreadContext } from '../dispatch/thread-context.js'
import type { ThreadLogLine, ThreadTask } from '../dispatch/thread-protocol.js'
import { type CurrentJob, runAsCurrent } from '../kernel/current-job.js'
import type { LookJob } from '../stackdump/thread-look.js'
import type { ProcessedJob, WorkerInternals } from './bullmq-internals.js'
import { showOnMain } from './main-look.js'
import type { Place } from './membership.js'
import { type GiveBack, shadow } from './shadow.js'

/** So many jobs between two ticks are seen at once; that one of them blocks the event loop is known by name. */
const SEEN_AT_ONCE = 20

/** What its processor finds as the job that it runs for. */
class WatchedJob implements CurrentJob {
  readonly given: ProcessedJob
  shown: Shown | undefined
  /** Sandboxed: the child process or thread, once it is there. */
  child: Child | undefined
  /** What it still says is nobody's business. */
  over = false
  readonly #show: (job: WatchedJob) => void

  constructor(given: ProcessedJob, show: (job: WatchedJob) => void) {
    this.given = given
    this.#show = show
  }

  heartbeat(progress?: string | number): void {
    this.#context()?.heartbeat(progress)
  }

  step<T>(name: string, run: () => T | Promise<T>): Promise<T> {
    const context = this.#context()
    return context ? context.step(name, run) : Promise.resolve().then(run)
  }

  #context(): ThreadContext | undefined {
    if (!this.shown && !this.over) this.#show(this)
    return this.shown?.context
  }
}

/** What stands on the board. */
interface Shown {
  readonly task: ThreadTask
  readonly context: ThreadContext
}

/** BullMQ's child, as far as it tells how it is. */
interface Child {
  readonly pid?: number
  readonly exitCode?: number | null
  readonly signalCode?: string | null
}

export class WatchedJobs {
  readonly #worker: WorkerInternals
  readonly #place: Place
  readonly #running = new Map<string, WatchedJob>()
  /** Ran already when we began to look: only their locks tell when they end. */
  readonly #found = new Map<string, WatchedJob>()
  readonly #hide: GiveBack
  /** The job whose processor is being called, in this very turn. */
  #calling: WatchedJob | undefined
  #seenAtOnce = 0

  constructor(worker: WorkerInternals, place: Place) {
    this.#worker = worker
    this.#place = place
    for (const id of worker.lockManager?.trackedJobs?.keys() ?? []) {
      const job = new WatchedJob({ id, name: '', data: undefined, attemptsMade: 0 }, this.#show)
      this.#show(job)
      this.#found.set(id, job)
    }
    this.#hide = showOnMain(() =>
      [...this.#running.values()].map(
        ({ given, shown }): LookJob => shown?.context.look() ?? { id: given.id ?? '', steps: [] },
      ),
    )
  }

  get size(): number {
    return this.#running.size + this.#found.size
  }

  /** @param store where the worker renews its locks */
  see(store: object): GiveBack[] {
    const { childPool } = this.#worker
    const onProgress = (given: { readonly id?: string }) => {
      const shown = this.#running.get(given.id ?? '')?.shown
      if (shown) this.#place.board.jobAlive(shown.task)
    }
    this.#worker.on('progress', onProgress)
    return [
      shadow(
        this.#worker,
        'callProcessJob',
        (call) =>
          (...args) =>
            this.#run(args[0] as ProcessedJob, call, args),
      ),
      shadow(
        store,
        'extendLocks',
        (extend) =>
          (...args) =>
            this.#renew(args[0] as readonly string[], () => extend(...args)),
      ),
      ...(childPool ? [this.#seeChildren(childPool)] : []),
      () => this.#worker.off('progress', onProgress),
    ]
  }

  /** Passes on what the processor gives, as it gives it. */
  #run(given: ProcessedJob, call: (...args: unknown[]) => unknown, args: unknown[]): unknown {
    const job = new WatchedJob(given, this.#show)
    const { id = '' } = given
    this.#running.set(id, job)
    this.#seenAtOnce += 1
    if (this.#seenAtOnce <= SEEN_AT_ONCE || this.#worker.childPool) this.#show(job)
    this.#calling = job
    const end = () => this.#end(this.#running, id, job)
    try {
      const result = runAsCurrent(job, call, args)
      if (result instanceof Promise) result.then(end, end)
      else end()
      return result
    } catch (error) {
      end()
      throw error
    } finally {
      this.#calling = undefined
    }
  }

  /** When the board is full it runs unseen. */
  readonly #show = (job: WatchedJob): void => {
    const { board, queueIndex } = this.#place
    const { id = '', name, data, attemptsMade, attemptsStarted = 0 } = job.given
    const attempt = attemptsMade + 1
    const ref = board.claimJob(queueIndex, id, attempt, attemptsStarted)
    if (!ref) return
    const task: ThreadTask = {
      ...ref,
      id,
      name,
      queue: this.#worker.name,
      data,
      group: undefined,
      attempt,
      fence: attemptsStarted,
    }
    if (this.#worker.childPool) board.jobAlone(ref)
    else board.jobOnMain(ref)
    job.shown = { task, context: new ThreadContext(board, task, discard) }
  }

  #end(among: Map<string, WatchedJob>, id: string, job: WatchedJob): void {
    job.over = true
    if (job.shown) this.#place.board.freeJob(job.shown.task)
    // Taken again meanwhile, it is another run's.
    if (among.get(id) === job) among.delete(id)
  }

  async #renew(ids: readonly string[], extend: () => unknown): Promise<unknown> {
    const { board } = this.#place
    const since = board.stamp()
    const refused = await extend()
    const lost = new Set(Array.isArray(refused) ? refused : [])
    for (const id of ids) {
      const shown = (this.#running.get(id) ?? this.#found.get(id))?.shown
      if (shown && !lost.has(id)) board.jobLocked(shown.task, since)
    }
    return refused
  }

  /** BullMQ asks for a child in the same turn in which it calls the processor: so we know whose it is. */
  #seeChildren(childPool: object): GiveBack {
    return shadow(childPool, 'retain', (retain) => async (...args) => {
      const job = this.#calling
      if (job) this.#step(job, 'waiting for a child process')
      const child = await retain(...args)
      if (job) {
        job.child = child as Child
        this.#step(job, `child ${job.child.pid ?? 'thread'}`)
      }
      return child
    })
  }

  #step({ shown }: WatchedJob, name: string): void {
    const { board } = this.#place
    if (shown) board.jobStep(shown.task, name, board.stamp())
  }

  /** At each tick: jobs that were not shown yet, children that are gone, and jobs that were there before us and have ended. */
  look(): void {
    this.#seenAtOnce = 0
    for (const job of this.#running.values()) {
      if (!job.shown) this.#show(job)
      const { child } = job
      if (!child || (child.exitCode ?? child.signalCode ?? undefined) === undefined) continue
      job.child = undefined
      this.#step(job, `child ${child.pid ?? 'thread'}, which is gone`)
    }
    if (this.#found.size === 0) return
    const tracked = this.#worker.lockManager?.trackedJobs
    for (const [id, job] of this.#found) {
      if (!tracked?.has(id) || this.#running.has(id)) this.#end(this.#found, id, job)
    }
  }

  /** Nothing is watched any more; what runs goes on unseen. */
  forget(): void {
    this.#hide()
    for (const [id, job] of this.#running) this.#end(this.#running, id, job)
    for (const [id, job] of this.#found) this.#end(this.#found, id, job)
  }
}

/** A processor logs where it likes; what is asked of `ctx.log` belongs to handlers. */
function discard(_line: ThreadLogLine): void {
  // nothing
}
