/**
 * The threads of one queue, through piscina. It owns starting, replacing and ending them, and tells why one was lost.
 *
 * A thread is ended through piscina's own abort signal, whichever of its jobs the order names: then piscina gives the
 * thread up and replaces it at once, also when it is in native code and does not end. (Told to end behind piscina's back
 * such a one would keep its place in the pool.) Whether a thread that was given up really ends is watched by ThreadEnds.
 */
import { fileURLToPath } from 'node:url'
import type { Worker } from 'node:worker_threads'
import { Piscina } from 'piscina'
import type { BeatBoard, JobCellRef } from '../heartbeat/beat-board.js'
import { hasCode, messageOf } from '../kernel/errors.js'
import { within } from '../kernel/within.js'
import { endChildrenOf } from './node-thread-children.js'
import type { Executor, ThreadLoss } from './run-attempt.js'
import { ThreadEnds } from './thread-ends.js'
import type { ThreadLogLine, ThreadReply, ThreadSetup, ThreadTask } from './thread-protocol.js'

export interface PiscinaExecutorOptions {
  readonly board: BeatBoard
  /** Index of the queue in the board's layout. */
  readonly queueIndex: number
  readonly handler: string
  readonly threads: number
  readonly jobsPerThread: number
  readonly tickMs: number
  /** Address of the compiled thread module. */
  readonly threadModule: URL
  readonly onLog: (line: ThreadLogLine) => void
  readonly onError: (error: unknown) => void
  /** The kernel's id of a thread. Without it a thread that waits for a process that it started is not freed. Default: from the board. */
  readonly tidOf?: (threadId: number) => number | undefined
  /** How many threads that do not end are borne. Default: as many as the pool has. The board has cells for two more. */
  readonly zombieLimit?: number
  /** A thread that was ended goes on in native code. It is replaced, but its memory and its place on the board stay taken. */
  readonly onZombie?: (threadId: number) => void
  /** More zombies than are borne: only the end of the process frees what they hold. Said once. */
  readonly onTooManyZombies?: () => void
}

/** Pools end their threads within this, milliseconds, or are left behind: a thread in native code may never end. */
const CLOSE_TIMEOUT_MS = 2000

export class PiscinaExecutor implements Executor {
  readonly #options: PiscinaExecutorOptions
  readonly #pool: Piscina<ThreadTask, ThreadReply>
  readonly #ends: ThreadEnds
  /** Every thread that has not exited, whether or not piscina has given it up. */
  readonly #alive = new Map<number, Worker>()
  /** Threads that have started and take jobs. */
  readonly #ready = new Set<number>()
  /** The last run on each job cell; it may be over. */
  readonly #runs: Run[] = []
  #stopping = false

  constructor(options: PiscinaExecutorOptions) {
    this.#options = options
    const { board, queueIndex, handler, threads, jobsPerThread, tickMs, threadModule } = options
    const setup: ThreadSetup = { board: board.handle, queue: queueIndex, handler, tickMs }
    this.#pool = new Piscina({
      filename: fileURLToPath(threadModule),
      minThreads: threads,
      maxThreads: threads,
      concurrentTasksPerWorker: jobsPerThread,
      loadBalancer: leastBusy(jobsPerThread, this.#ready),
      idleTimeout: Number.POSITIVE_INFINITY,
      recordTiming: false,
      workerData: setup,
    })
    this.#ends = this.#watchEnds(threads)
    this.#pool.on('error', options.onError)
    this.#pool.on('message', (message: unknown) => {
      if (isLogLine(message)) options.onLog(message)
    })
    this.#pool.on('workerCreate', ({ id }: { id: number }) => {
      this.#watchThreads()
      this.#ready.add(id)
    })
    this.#pool.on('workerDestroy', ({ id }: { id: number }) => this.#gaveUp(id))
    this.#watchThreads()
    for (const threadId of this.#alive.keys()) this.#ready.add(threadId)
  }

  #watchEnds(threads: number): ThreadEnds {
    const { board, zombieLimit = threads, onZombie, onTooManyZombies } = this.#options
    const tidOf = this.#options.tidOf ?? ((threadId) => board.threadTid(threadId))
    return new ThreadEnds({
      zombieLimit,
      endChildren: (threadId) => {
        const tid = tidOf(threadId)
        if (tid !== undefined) endChildrenOf(tid)
      },
      onZombie: (threadId) => onZombie?.(threadId),
      onTooManyZombies: () => onTooManyZombies?.(),
      timer: (run, ms) => {
        // After a pause of the main thread its timers come first: what ended meanwhile must be heard before it is judged.
        const timer = setTimeout(() => setImmediate(run), ms)
        return () => clearTimeout(timer)
      },
    })
  }

  /** Threads that were ended and go on in native code. */
  get zombies(): number {
    return this.#ends.zombies
  }

  /** piscina says that it gave a thread up, not that the thread ended: only its own exit frees its cell. */
  #watchThreads(): void {
    for (const worker of this.#pool.threads) {
      const { threadId } = worker
      if (threadId < 0 || this.#alive.has(threadId)) continue
      this.#alive.set(threadId, worker)
      worker.once('exit', () => {
        this.#alive.delete(threadId)
        this.#ready.delete(threadId)
        this.#ends.exited(threadId)
        this.#options.board.freeThread(threadId)
      })
    }
  }

  /** @param threadId -1 when it has exited */
  #gaveUp(threadId: number): void {
    // It may have been so new that it was not known yet.
    this.#watchThreads()
    const worker = this.#alive.get(threadId)
    if (!worker) return
    this.#ready.delete(threadId)
    this.#ends.gaveUp({ threadId, terminate: () => void worker.terminate().catch(this.#options.onError) })
  }

  run(task: ThreadTask): Promise<ThreadReply | { ok: 'lost'; loss: ThreadLoss }> {
    const run = new Run(task.claim)
    this.#runs[task.cell] = run
    return this.#pool.run(task, { signal: run }).catch((error: unknown) => ({ ok: 'lost', loss: this.#lossOf(run, error) }))
  }

  kill(ref: JobCellRef, reason: string): void {
    const run = this.#runs[ref.cell]
    if (run?.claim !== ref.claim || run.killed !== undefined) return
    run.killed = reason
    // Orders that come together are all known before the first of them costs the others their thread.
    setImmediate(() => {
      if (!this.#hasThread(ref) || !run.abort()) run.killed = undefined
    })
  }

  /** Of several jobs one that no thread has begun has nobody to end: those before it on its thread are not its doing. */
  #hasThread(ref: JobCellRef): boolean {
    return this.#options.jobsPerThread === 1 || this.#options.board.threadOf(ref) >= 0
  }

  #lossOf({ killed }: Run, error: unknown): ThreadLoss {
    if (killed !== undefined) return { kind: 'lost', message: `thread terminated: ${killed}`, ordered: true }
    if (this.#stopping) return { kind: 'lost', message: 'thread terminated: the supervisor is shutting down', ordered: true }
    if (messageOf(error) === GIVEN_UP) return { kind: 'neighbour' }
    return { kind: 'lost', message: crashMessage(error), ordered: false }
  }

  /** Ends all threads, whatever they do. */
  async stop(): Promise<void> {
    this.#stopping = true
    await within(this.#pool.destroy(), CLOSE_TIMEOUT_MS)
  }
}

/** What piscina tells the other jobs of a thread that it gives up because of one. A thread that ends by itself says otherwise. */
const GIVEN_UP = 'Terminating worker thread'

type LoadBalancer = NonNullable<NonNullable<ConstructorParameters<typeof Piscina>[0]>['loadBalancer']>

/**
 * piscina's own gives a thread that runs a job with a signal no other job. It also gives jobs to threads that are still
 * starting; when such a one is ended piscina takes that for a failed start and replaces no lost thread any more.
 */
function leastBusy(jobsPerThread: number, ready: ReadonlySet<number>): LoadBalancer {
  return (_task, workers) => {
    let chosen: (typeof workers)[number] | null = null
    let least = jobsPerThread
    for (const worker of workers) {
      // Infinity is how piscina says that it carries one job, which can be taken back.
      const usage = worker.currentUsage
      const jobs = usage === Number.POSITIVE_INFINITY ? 1 : usage
      if (jobs >= least || !ready.has(worker.id)) continue
      if (jobs === 0) return worker
      chosen = worker
      least = jobs
    }
    return chosen
  }
}

/** How a thread ended that nobody ended. */
function crashMessage(error: unknown): string {
  if (hasCode(error, 'ERR_WORKER_OUT_OF_MEMORY')) {
    return "out of memory: the thread's heap limit was reached"
  }
  const exit = /worker exited with code: (-?\d+)/.exec(messageOf(error))
  return exit
    ? `the thread exited with code ${exit[1]} (process.exit in the handler?)`
    : `the thread crashed: ${messageOf(error)}`
}

function isLogLine(message: unknown): message is ThreadLogLine {
  return typeof message === 'object' && message !== null && 'unstuck' in message && message.unstuck === 'log'
}

/**
 * A job given to piscina, and what piscina takes for its abort signal, without the cost of a real one: an AbortController
 * for each job was 11 µs of a no-op job (profiled).
 */
class Run {
  /** Why it is to lose its thread, when we have ordered that. */
  killed: string | undefined
  readonly claim: number
  #listener: (() => void) | undefined

  constructor(claim: number) {
    this.claim = claim
  }

  once(_name: 'abort', listener: () => void): void {
    this.#listener = listener
  }

  off(): void {
    this.#listener = undefined
  }

  removeListener(): void {
    this.#listener = undefined
  }

  /** @returns false when it is over */
  abort(): boolean {
    const listener = this.#listener
    this.#listener = undefined
    listener?.()
    return listener !== undefined
  }
}
