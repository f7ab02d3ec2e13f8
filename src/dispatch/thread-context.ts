/** The `ctx` that a handler gets in a task thread: everything that it says goes straight onto the board. */
import type { BeatBoard } from '../heartbeat/beat-board.js'
import type { JobContext } from '../kernel/job.js'
import type { ThreadLogLine, ThreadTask } from './thread-protocol.js'

export interface ThreadJob {
  readonly context: JobContext
  /** Aborts the job's signal when the board says so. */
  checkAbort(): void
}

export function createContext(board: BeatBoard, task: ThreadTask, post: (line: ThreadLogLine) => void): ThreadJob {
  const job = new BoardJob(board, task, post)
  return { context: job, checkAbort: () => job.checkAbort() }
}

class BoardJob implements JobContext {
  readonly fence: number
  readonly #board: BeatBoard
  readonly #task: ThreadTask
  /** The steps that are entered now, the innermost last. */
  readonly #steps: { readonly name: string; readonly since: number }[] = []
  #abort: AbortController | undefined
  #progress: string | number | undefined
  #log: JobContext['log'] | undefined
  readonly #post: (line: ThreadLogLine) => void

  constructor(board: BeatBoard, task: ThreadTask, post: (line: ThreadLogLine) => void) {
    this.#board = board
    this.#task = task
    this.fence = task.fence
    this.#post = post
  }

  /** Made when it is asked for: most jobs are short and say nothing. */
  get log(): JobContext['log'] {
    if (this.#log) return this.#log
    const { queue, id: jobId, attempt } = this.#task
    const say = (level: ThreadLogLine['level']) => (message: string) =>
      this.#post({ unstuck: 'log', level, message: String(message), queue, jobId, attempt })
    this.#log = { info: say('info'), warn: say('warn'), error: say('error') }
    return this.#log
  }

  get signal(): AbortSignal {
    this.#abort ??= new AbortController()
    this.checkAbort()
    return this.#abort.signal
  }

  checkAbort(): void {
    if (!this.#abort || this.#abort.signal.aborted) return
    const reason = this.#board.abortReason(this.#task)
    if (reason) this.#abort.abort(new Error(`job ${this.#task.id} is to stop: ${reason}`))
  }

  // A handler may pull these out of ctx, so they are bound.
  readonly heartbeat = (progress?: string | number): void => {
    if (progress !== undefined) {
      if (progress === this.#progress) return
      this.#progress = progress
    }
    this.#board.jobAlive(this.#task)
  }

  readonly step = async <T>(name: string, run: () => T | Promise<T>): Promise<T> => {
    const step = { name: String(name), since: this.#board.stamp() }
    this.#steps.push(step)
    this.#board.jobStep(this.#task, step.name, step.since)
    try {
      return await run()
    } finally {
      this.#steps.splice(this.#steps.indexOf(step), 1)
      const outer = this.#steps.at(-1)
      this.#board.jobStep(this.#task, outer?.name, outer?.since ?? 0)
    }
  }
}
