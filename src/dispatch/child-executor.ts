/**
 * Runs suspects: jobs whose attempts lost their thread or supervisor again and again. Each runs alone in a process of its
 * own, so that what it does ends nothing but that process, and so that it is known who did it. A process runs one job
 * and ends; there are never more of them than the queue has slots.
 *
 *   forked ──ready──▶ given its task ──reply──▶ ends by itself, or is ended
 *      └ ended: a failed start     └ ended: the job was the reason, unless we ordered it
 *
 * The attempt is over when the process is, so that nothing of it runs beside the next one.
 */
import { type ChildProcess, fork } from 'node:child_process'
import type { BeatBoard, JobCellRef } from '../heartbeat/beat-board.js'
import { messageOf } from '../kernel/errors.js'
import { within } from '../kernel/within.js'
import type { ThreadLoss } from './run-attempt.js'
import type { FromSolo, ToSolo } from './solo-protocol.js'
import type { LoneExecutor } from './suspects-apart.js'
import type { ThreadLogLine, ThreadReply, ThreadTask } from './thread-protocol.js'

export interface ChildExecutorOptions {
  readonly board: BeatBoard
  readonly handler: string
  /** How often a running job is asked whether it is to stop, milliseconds. */
  readonly tickMs: number
  /** Address of the compiled module that such a process runs. */
  readonly soloModule: URL
  readonly onLog: (line: ThreadLogLine) => void
}

type Ended = ThreadReply | { readonly ok: 'lost'; readonly loss: ThreadLoss }

/** With its reply given, a process may still run its exit handlers for so long, milliseconds. */
const EXIT_LIMIT_MS = 1000
/** What a process said before its end is read within this, milliseconds. */
const LAST_WORDS_LIMIT_MS = 500
/** After SIGKILL the kernel needs no longer, milliseconds. */
const KILL_LIMIT_MS = 2000

export class ChildExecutor implements LoneExecutor {
  readonly #options: ChildExecutorOptions
  readonly #running = new Set<SoloRun>()
  #tick: NodeJS.Timeout | undefined
  #stopped = false

  constructor(options: ChildExecutorOptions) {
    this.#options = options
  }

  async run(task: ThreadTask): Promise<Ended> {
    if (this.#stopped) return { ok: 'lost', loss: orderedLoss(SHUTTING_DOWN) }
    const run = new SoloRun(task, this.#options)
    this.#running.add(run)
    this.#tick ??= setInterval(() => this.#passOnAborts(), this.#options.tickMs)
    try {
      return await run.ended
    } finally {
      this.#running.delete(run)
      if (this.#running.size === 0) this.#endTick()
    }
  }

  #passOnAborts(): void {
    for (const run of this.#running) run.passOnAbort()
  }

  #endTick(): void {
    clearInterval(this.#tick)
    this.#tick = undefined
  }

  runs(ref: JobCellRef): boolean {
    return this.#of(ref) !== undefined
  }

  kill(ref: JobCellRef, reason: string): void {
    this.#of(ref)?.kill(reason)
  }

  /** By claim too: on a cell that was given on, an older run may not have ended yet. */
  #of({ cell, claim }: JobCellRef): SoloRun | undefined {
    for (const run of this.#running) {
      if (run.task.cell === cell && run.task.claim === claim) return run
    }
    return undefined
  }

  /** Ends all of them, whatever they do. */
  async stop(): Promise<void> {
    this.#stopped = true
    const ended = [...this.#running].map((run) => {
      run.kill(SHUTTING_DOWN)
      return run.ended
    })
    await within(Promise.all(ended), KILL_LIMIT_MS)
  }
}

const SHUTTING_DOWN = 'the supervisor is shutting down'

function orderedLoss(reason: string): ThreadLoss {
  return { kind: 'lost', message: `process terminated: ${reason}`, ordered: true }
}

/** One job in its process. */
class SoloRun {
  readonly task: ThreadTask
  /** Never rejects. */
  readonly ended: Promise<Ended>
  readonly #options: ChildExecutorOptions
  readonly #child: ChildProcess
  #given = false
  #aborted = false
  #reply: ThreadReply | undefined
  #lastWords: string | undefined
  /** Why we ended it. */
  #order: string | undefined
  #exitLimit: NodeJS.Timeout | undefined

  constructor(task: ThreadTask, options: ChildExecutorOptions) {
    this.task = task
    this.#options = options
    options.board.jobAlone(task)
    this.#child = fork(options.soloModule, { execArgv: [], serialization: 'advanced' })
    this.#child.on('message', (message: unknown) => {
      if (isFromSolo(message)) this.#heard(message)
    })
    this.ended = this.#end()
  }

  async #end(): Promise<Ended> {
    const closed = new Promise<void>((resolve) => this.#child.once('close', () => resolve()))
    const exit = await new Promise<Exit>((resolve) => {
      this.#child.once('exit', (code, signal) => resolve({ code, signal }))
      this.#child.once('error', (error) => resolve({ error: messageOf(error) }))
    })
    clearTimeout(this.#exitLimit)
    // Its end is told before the last that it said. Another process that holds its channel open must not hold us up.
    if (!('error' in exit)) await within(closed, LAST_WORDS_LIMIT_MS)
    return this.#verdict(exit)
  }

  #verdict(exit: Exit): Ended {
    if (this.#reply) return this.#reply
    if (this.#order !== undefined) return { ok: 'lost', loss: orderedLoss(this.#order) }
    if ('error' in exit || !this.#given) return notStarted('error' in exit ? exit.error : `it ended with ${howItEnded(exit)}`)
    return { ok: 'lost', loss: { kind: 'alone', message: aloneMessage(exit, this.#lastWords) } }
  }

  #heard(message: FromSolo): void {
    const { board, onLog } = this.#options
    switch (message.unstuck) {
      case 'ready':
        this.#give()
        break
      case 'alive':
        board.jobAlive(this.task)
        break
      case 'step':
        board.jobStep(this.task, message.name, (board.stamp() - message.ageMs) | 0)
        break
      case 'log':
        onLog(message)
        break
      case 'crash':
        this.#lastWords = message.message
        break
      case 'reply':
        this.#reply ??= message.reply
        this.#exitLimit ??= setTimeout(() => this.#child.kill('SIGKILL'), EXIT_LIMIT_MS)
        break
    }
  }

  #give(): void {
    if (this.#given) return
    this.#given = true
    const { handler, tickMs, board } = this.#options
    this.#send({ unstuck: 'task', task: this.task, handler, tickMs })
    board.jobAlive(this.task)
    this.passOnAbort()
  }

  passOnAbort(): void {
    if (!this.#given || this.#aborted) return
    const reason = this.#options.board.abortReason(this.task)
    if (!reason) return
    this.#aborted = true
    this.#send({ unstuck: 'abort', reason })
  }

  /** What does not reach it, since it ends, its end will explain. */
  #send(message: ToSolo): void {
    if (this.#child.connected) this.#child.send(message, () => undefined)
  }

  kill(reason: string): void {
    this.#order ??= reason
    this.#child.kill('SIGKILL')
  }
}

type ProcessExit = { readonly code: number | null; readonly signal: NodeJS.Signals | null }
type Exit = ProcessExit | { readonly error: string }

function howItEnded({ code, signal }: ProcessExit): string {
  return signal === null ? `exit code ${code ?? 'unknown'}` : `signal ${signal}`
}

/** Node's exit code for an error that nobody caught. */
const UNCAUGHT = 1

function aloneMessage(exit: ProcessExit, lastWords: string | undefined): string {
  const ended = `the process of its own that ran this job alone ended with ${howItEnded(exit)}`
  if (exit.code === UNCAUGHT && lastWords !== undefined) return `${ended}: ${lastWords}`
  if (exit.code !== null) return `${ended} (process.exit in the handler?)`
  return exit.signal === 'SIGABRT' ? `${ended} (out of memory?)` : ended
}

/** Not the job's doing: no code of it ran. It counts as a try, and may work next time. */
function notStarted(why: string): ThreadReply {
  const message = `the process of its own in which this job was to run alone could not be started: ${why}`
  return { ok: false, error: { name: 'Error', message, stack: '', permanent: false } }
}

/** A job may use the same channel for itself. */
function isFromSolo(message: unknown): message is FromSolo {
  return typeof message === 'object' && message !== null && 'unstuck' in message
}
