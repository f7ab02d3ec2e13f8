/**
 * The threads of one queue, through piscina. It owns starting, replacing and ending them, and tells why one was lost.
 *
 * With one job a thread, piscina's own abort signal ends a thread. With several it must not be used: it makes piscina
 * give each thread one task at a time. Then the thread that carries the job is found on the board and terminated.
 */
import { fileURLToPath } from 'node:url'
import type { Worker } from 'node:worker_threads'
import { Piscina } from 'piscina'
import type { BeatBoard, JobCellRef } from '../heartbeat/beat-board.js'
import { messageOf } from '../kernel/errors.js'
import { within } from '../kernel/within.js'
import type { Executor, ThreadLoss } from './run-attempt.js'
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
}

/** Pools end their threads within this, milliseconds, or are left behind: a thread in native code may never end. */
const CLOSE_TIMEOUT_MS = 2000

export class PiscinaExecutor implements Executor {
  readonly #options: PiscinaExecutorOptions
  readonly #pool: Piscina<ThreadTask, ThreadReply>
  readonly #watched = new Map<Worker, number>()
  /** One job a thread: how to end the thread of a job, by the job's cell. */
  readonly #switches: KillSwitch[] = []
  /** Why a job's thread was ended on purpose, by the job's cell. */
  readonly #kills = new Map<number, string>()
  /** Thread cells whose thread we are ending because of one of its jobs; the others on it are innocent. */
  readonly #killedThreads = new Set<number>()
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
      idleTimeout: Number.POSITIVE_INFINITY,
      recordTiming: false,
      workerData: setup,
    })
    this.#pool.on('error', options.onError)
    this.#pool.on('message', (message: unknown) => {
      if (isLogLine(message)) options.onLog(message)
    })
    this.#pool.on('workerCreate', () => this.#watchThreads())
    this.#watchThreads()
  }

  /** piscina says that it gave a thread up, not that the thread ended: only its own exit frees its cell. */
  #watchThreads(): void {
    for (const worker of this.#pool.threads) {
      if (this.#watched.has(worker)) continue
      const { threadId } = worker
      this.#watched.set(worker, threadId)
      worker.once('exit', () => {
        this.#watched.delete(worker)
        const cell = this.#options.board.readThreads().find((thread) => thread.threadId === threadId)?.cell
        this.#options.board.freeThread(threadId)
        // Its tasks are rejected in this same turn and still ask who was to blame.
        if (cell !== undefined) setImmediate(() => this.#killedThreads.delete(cell))
      })
    }
  }

  run(task: ThreadTask): Promise<ThreadReply | { ok: 'lost'; loss: ThreadLoss }> {
    const signal = this.#options.jobsPerThread > 1 ? null : this.#switchOf(task.cell)
    return this.#pool.run(task, { signal }).then(
      (reply) => {
        // An order to kill that came too late must not meet the next job on this cell.
        if (this.#kills.size > 0) this.#kills.delete(task.cell)
        return reply
      },
      (error: unknown) => {
        const loss = this.#lossOf(task, error)
        this.#kills.delete(task.cell)
        return { ok: 'lost', loss }
      },
    )
  }

  #switchOf(cell: number): KillSwitch {
    this.#switches[cell] ??= new KillSwitch()
    return this.#switches[cell]
  }

  kill(ref: JobCellRef, reason: string): void {
    if (this.#kills.has(ref.cell)) return
    this.#kills.set(ref.cell, reason)
    if (this.#switches[ref.cell]?.throw()) return
    const threadCell = this.#options.board.threadOf(ref)
    const thread = this.#options.board.readThreads().find((candidate) => candidate.cell === threadCell)
    const worker = this.#pool.threads.find((candidate) => candidate.threadId === thread?.threadId)
    if (!worker) {
      // No thread has begun it; what ends later on that place is not this order's doing.
      this.#kills.delete(ref.cell)
      return
    }
    this.#killedThreads.add(threadCell)
    // Its exit makes piscina replace it and give up its tasks; a failure to end it shows as a thread that stays blocked.
    worker.terminate().catch(this.#options.onError)
  }

  #lossOf(ref: JobCellRef, error: unknown): ThreadLoss {
    const reason = this.#kills.get(ref.cell)
    if (reason !== undefined) return { kind: 'lost', message: `thread terminated: ${reason}`, ordered: true }
    if (this.#killedThreads.has(this.#options.board.threadOf(ref))) return { kind: 'neighbour' }
    if (this.#stopping) return { kind: 'lost', message: 'thread terminated: the supervisor is shutting down', ordered: true }
    return { kind: 'lost', message: crashMessage(error), ordered: false }
  }

  /** Ends all threads, whatever they do. */
  async stop(): Promise<void> {
    this.#stopping = true
    await within(this.#pool.destroy(), CLOSE_TIMEOUT_MS)
  }
}

/** How a thread ended that nobody ended. */
function crashMessage(error: unknown): string {
  if (error instanceof Error && 'code' in error && error.code === 'ERR_WORKER_OUT_OF_MEMORY') {
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
 * What piscina takes for an abort signal, without the cost of a real one: an AbortController for each job was 11 µs of
 * a no-op job (profiled). One for each cell, used again and again, for one task at a time.
 */
class KillSwitch {
  #listener: (() => void) | undefined

  once(_name: 'abort', listener: () => void): void {
    this.#listener = listener
  }

  off(): void {
    this.#listener = undefined
  }

  removeListener(): void {
    this.#listener = undefined
  }

  /** @returns false when no task listens */
  throw(): boolean {
    const listener = this.#listener
    this.#listener = undefined
    listener?.()
    return listener !== undefined
  }
}
