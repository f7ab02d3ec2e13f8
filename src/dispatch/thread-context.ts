/** The `ctx` that a handler gets: everything that it says goes to the voice of the thread or process that runs it. */
import type { AbortReason, JobCellRef } from '../heartbeat/beat-board.js'
import type { JobContext } from '../kernel/job.js'
import { entryPoint, type LookJob, type LookStep } from '../stackdump/thread-look.js'
import type { ThreadLogLine, ThreadTask } from './thread-protocol.js'

/**
 * Where a job's signs of life go and the order to stop comes from. In a task thread that is the board itself, so that
 * nothing lies between a job and its cell; in a process of its own the channel to the supervisor.
 */
export interface JobVoice {
  /** Now, as this voice keeps times: whole milliseconds in 32 bits, of which only differences are used. */
  stamp(): number
  jobAlive(job: JobCellRef): void
  /** @param name undefined: no step is entered any more. @param since stamp at which it was entered */
  jobStep(job: JobCellRef, name: string | undefined, since: number): void
  abortReason(job: JobCellRef): AbortReason | undefined
}

interface Step {
  readonly name: string
  readonly since: number
  /** The place, for a dump. */
  readonly entered: LookStep['entered']
}

export class ThreadContext implements JobContext {
  readonly fence: number
  readonly traceparent?: string
  readonly #voice: JobVoice
  readonly #task: ThreadTask
  /** The steps that are entered now, the innermost last. */
  readonly #steps: Step[] = []
  #abort: AbortController | undefined
  #progress: string | number | undefined
  #log: JobContext['log'] | undefined
  readonly #post: (line: ThreadLogLine) => void

  constructor(voice: JobVoice, task: ThreadTask, post: (line: ThreadLogLine) => void) {
    this.#voice = voice
    this.#task = task
    this.fence = task.fence
    if (task.traceparent !== undefined) this.traceparent = task.traceparent
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

  /** Aborts the job's signal when the voice says so. For whoever runs the job, not for the handler. */
  checkAbort(): void {
    if (!this.#abort || this.#abort.signal.aborted) return
    const reason = this.#voice.abortReason(this.#task)
    if (reason) this.#abort.abort(new Error(`job ${this.#task.id} is to stop: ${reason}`))
  }

  /** What a dump shows of this job. For whoever runs the job, not for the handler. */
  look(): LookJob {
    const now = this.#voice.stamp()
    const steps = this.#steps.map(({ name, since, entered }) => ({
      name,
      ageMs: (now - since) >>> 0,
      ...(entered ? { entered } : {}),
    }))
    return { id: this.#task.id, steps }
  }

  // A handler may pull these out of ctx, so they are bound.
  readonly heartbeat = (progress?: string | number): void => {
    if (progress !== undefined) {
      if (progress === this.#progress) return
      this.#progress = progress
    }
    this.#voice.jobAlive(this.#task)
  }

  readonly step = async <T>(name: string, run: () => T | Promise<T>): Promise<T> => {
    const step: Step = { name: String(name), since: this.#voice.stamp(), entered: entryPoint(this.step) }
    this.#steps.push(step)
    this.#voice.jobStep(this.#task, step.name, step.since)
    try {
      return await run()
    } finally {
      this.#steps.splice(this.#steps.indexOf(step), 1)
      const outer = this.#steps.at(-1)
      this.#voice.jobStep(this.#task, outer?.name, outer?.since ?? 0)
    }
  }
}
