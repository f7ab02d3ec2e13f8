/**
 * Runs a queue's jobs as sessions: child processes, each in its own workspace. Sessions are few and long: one timer for
 * all passes on what the board says and looks for signs of life, and a silent session costs next to nothing.
 */
import type { JobCellRef } from '../heartbeat/beat-board.js'
import { NO_TRACER } from '../kernel/telemetry.js'
import { within } from '../kernel/within.js'
import type { SessionRecord } from '../launch/session.js'
import type { SocketAnswer, SocketRequest } from '../launch/socket-protocol.js'
import type { Executor } from './run-attempt.js'
import type { SessionEnded } from './session-outcome.js'
import { SessionRun, type SessionRunOptions } from './session-run.js'
import type { ThreadTask } from './thread-protocol.js'

export interface SessionExecutorOptions extends SessionRunOptions {
  /** How many run at a time. */
  readonly concurrency: number
  /** How often the board is asked who must stop, milliseconds. */
  readonly tickMs: number
}

/** With all of them ended by force, their workspaces are removed within this, milliseconds; the rest is for the reconcile loop. */
const STOP_LIMIT_MS = 5000
const HOLDS_LIMIT_MS = 2000

export class SessionExecutor implements Executor {
  readonly graceMs: number
  readonly #options: SessionExecutorOptions
  readonly #running = new Set<SessionRun>()
  /** Sessions that were found running, until their attempt is taken up here. */
  readonly #adopted = new Map<string, SessionRecord>()
  #tick: NodeJS.Timeout | undefined
  #stopped = false

  constructor(options: SessionExecutorOptions) {
    this.#options = options
    this.graceMs = options.config.graceMs
  }

  async run(task: ThreadTask, token: string): Promise<SessionEnded> {
    const adopted = this.#adopted.get(task.id)
    this.#adopted.delete(task.id)
    if (this.#stopped) return handedBack('shutdown')
    const found = adopted?.fence === task.fence ? adopted : undefined
    // Adopted ones come on top of what the worker fetched.
    if (!found && this.#running.size >= this.#options.concurrency) return handedBack('no_slot')
    const run = new SessionRun(task, token, this.#options, found)
    this.#running.add(run)
    const { tickMs, tracer = NO_TRACER } = this.#options
    // It looks after all of them, and is no part of the first one's trace.
    this.#tick ??= tracer.apart(() => setInterval(() => this.#look(), tickMs))
    try {
      return await run.done
    } finally {
      this.#running.delete(run)
      if (this.#running.size === 0) this.#endTick()
    }
  }

  #look(): void {
    for (const run of this.#running) {
      run.passOnAbort()
      run.look()
    }
  }

  #endTick(): void {
    clearInterval(this.#tick)
    this.#tick = undefined
  }

  /** The session of this record goes on under us, when its attempt comes. */
  expect(record: SessionRecord): void {
    this.#adopted.set(record.job, record)
  }

  /** Its attempt did not come, or is over: what is left of it is a ghost. */
  forget(record: SessionRecord): void {
    if (this.#adopted.get(record.job) === record) this.#adopted.delete(record.job)
  }

  /** Whether it is one of ours, and alive or about to be. */
  knows({ job, fence }: SessionRecord): boolean {
    return this.#of(job, fence) !== undefined || this.#adopted.get(job)?.fence === fence
  }

  kill({ cell, claim }: JobCellRef, reason: string): void {
    for (const run of this.#running) {
      if (run.task.cell === cell && run.task.claim === claim) run.kill(reason)
    }
  }

  /** What a session asks of its supervisor. Never rejects. */
  async answer({ do: what, job, fence, progress }: SocketRequest): Promise<SocketAnswer> {
    const run = this.#of(job, fence)
    if (!run || this.#options.board.abortReason(run.task) === 'lost its lock') return refused(job)
    if (what === 'beat') {
      run.beat(progress)
      return { ok: true }
    }
    try {
      const holds = await within(run.holds(), HOLDS_LIMIT_MS)
      if (typeof holds !== 'boolean') return UNSURE
      return holds ? { ok: true } : refused(job)
    } catch {
      return UNSURE
    }
  }

  #of(job: string, fence: number): SessionRun | undefined {
    for (const run of this.#running) {
      if (run.task.id === job && run.task.fence === fence) return run
    }
    return undefined
  }

  /** Ends all of them, whatever they do. */
  async stop(): Promise<void> {
    this.#stopped = true
    const done = [...this.#running].map((run) => {
      run.killNow('the supervisor is shutting down')
      return run.done
    })
    await within(Promise.all(done), STOP_LIMIT_MS)
  }
}

const UNSURE: SocketAnswer = { ok: false, error: 'Redis did not answer: nobody knows whose job it is now', unsure: true }

function handedBack(reason: 'shutdown' | 'no_slot'): SessionEnded {
  return { ok: 'lost', loss: { kind: 'handed_back', reason } }
}

function refused(job: string): SocketAnswer {
  return { ok: false, error: `job ${job} is not this session's any more` }
}
