/**
 * One session of one attempt, from its launch to the last thing that is cleaned up after it.
 *
 *   launching ──first sign of life──▶ running ──its process group is gone──▶ cleaning ──▶ done
 *       └ refused: all undone ▶ done
 *
 * It owns what the session is told (TERM, and KILL after the grace) and what counts as its sign of life: output, a touch
 * of its heartbeat file, `unstuck beat`; once it has named its progress, only another progress counts.
 */
import type { BeatBoard } from '../heartbeat/beat-board.js'
import { messageOf } from '../kernel/errors.js'
import { type LaunchPorts, launch } from '../launch/launch.js'
import type { LaunchPlan, SessionJob } from '../launch/launch-plan.js'
import {
  LaunchError,
  type LaunchStep,
  type SessionEnd,
  type SessionProcess,
  type SessionRecord,
  type SessionSigns,
  type SessionSpec,
  type WorkspaceEnd,
} from '../launch/session.js'
import type { SessionClaim } from '../launch/session-records.js'
import type { SessionConfig } from '../platform/config.js'
import type { ThreadLoss } from './run-attempt.js'
import type { ThreadReply, ThreadTask } from './thread-protocol.js'

export type SessionEnded = ThreadReply | { readonly ok: 'lost'; readonly loss: ThreadLoss }

export interface SessionRunOptions {
  readonly config: SessionConfig
  /** It may outlive its supervisor. */
  readonly survives: boolean
  readonly launchTimeoutMs: number
  /** A running session is looked at as often, milliseconds. */
  readonly lookMs: number
  /** Between TERM and KILL for a session whose supervisor is gone, milliseconds. */
  readonly lostGraceMs: number
  readonly host: string
  /** `supervisor#incarnation`. */
  readonly owner: string
  readonly board: BeatBoard
  readonly ports: LaunchPorts
  /** @throws LaunchError */
  readonly plan: (job: SessionJob) => LaunchPlan
  /** The way to this supervisor for the session in that folder. */
  readonly link: (folder: string) => Promise<string>
  readonly unlink: (folder: string) => Promise<void>
  readonly monotonicMs: () => number
  readonly events: SessionEvents
}

export interface SessionEvents {
  /** A launch was refused and undone. */
  rolledBack(job: ThreadTask, step: LaunchStep, error: Error): void
  /** Something of a session could not be removed; the reconcile loop tries again. */
  leftBehind(job: ThreadTask, what: string, error: unknown): void
  error(error: unknown): void
}

/** The output that the job's view shows, bytes. */
const SHOWN_OUTPUT = 4096
/** It is taken so often at most while the session runs, milliseconds. */
const OUTPUT_EVERY_MS = 5000
/** A launched session is looked at after so long at first, then less and less often, milliseconds. */
const FIRST_LOOK_MS = 50
/** How much of the last line of output an error message repeats, characters. */
const SHOWN_LINE = 200
/** What a shell makes of the signals by which a process dies that did not ask for it: ILL, ABRT, BUS, FPE, KILL, SEGV. */
const DEATHS: ReadonlySet<number> = new Set([132, 134, 135, 136, 137, 139])

export class SessionRun {
  readonly task: ThreadTask
  /** Never rejects. */
  readonly done: Promise<SessionEnded>
  readonly #options: SessionRunOptions
  readonly #claim: SessionClaim
  readonly #stopping = new AbortController()
  #process: SessionProcess | undefined
  #record: SessionRecord | undefined
  /** Whose link leads here. */
  #linked: string | undefined
  /** Why we ended it. */
  #order: string | undefined
  /** Without a grace. */
  #atOnce = false
  #killAt = Number.POSITIVE_INFINITY
  #lastSigns: SessionSigns = { output: '', touched: '' }
  #keptOutput = ''
  #keptAt = Number.NEGATIVE_INFINITY
  /** There was output since it was kept. */
  #outputDue = false
  #keeping = false
  #progress: string | undefined
  #shownLife = false
  #ended = false
  #looking = false
  #lookAt = 0
  #lookMs = FIRST_LOOK_MS

  /** @param adopted the record of a session that runs already, under this very claim */
  constructor(task: ThreadTask, token: string, options: SessionRunOptions, adopted?: SessionRecord) {
    this.task = task
    this.#claim = { id: task.id, token, fence: task.fence }
    this.#options = options
    this.#record = adopted
    this.done = this.#run().catch((error: unknown) => failed(messageOf(error), false))
  }

  async #run(): Promise<SessionEnded> {
    this.#options.board.jobLaunching(this.task)
    const process = this.#record ? await this.#attach(this.#record) : await this.#launch()
    if (!process) return orderedEnd('it could not be found again')
    if ('ok' in process) return process
    this.#process = process
    // Whoever wanted its end while it was launched did not reach it.
    if (this.#atOnce) process.kill()
    else if (this.#order !== undefined) this.#term(process)
    this.#lookAt = this.#options.monotonicMs() + FIRST_LOOK_MS
    const end = await process.ended
    this.#ended = true
    this.#showLife()
    return this.#cleanUp(end)
  }

  async #attach(record: SessionRecord): Promise<SessionProcess | undefined> {
    const { ports, events } = this.#options
    if (!record.process) return undefined
    // Without its link it cannot beat or ask, but it works, and shows other signs of life.
    await this.#link(record.folder).catch(events.error)
    this.#showLife()
    return ports.sessions.attach(record.process, record.folder)
  }

  async #launch(): Promise<SessionProcess | SessionEnded> {
    const { launchTimeoutMs, ports, config, events } = this.#options
    const overdue = () => this.#stopping.abort(new LaunchError(`not launched within ${launchTimeoutMs / 1000} s`))
    const timer = setTimeout(overdue, launchTimeoutMs)
    try {
      const { record, spec } = await this.#prepare()
      const launched = await launch(
        {
          claim: this.#claim,
          record,
          spec,
          graceMs: config.graceMs,
          signal: this.#stopping.signal,
          onStep: (step) => this.#launchStep(step),
          onUndoFailed: (step, error) => events.leftBehind(this.task, step, error),
        },
        ports,
      )
      if (launched.kind === 'refused') return await this.#refused(launched.step, launched.error)
      this.#record = launched.record
      this.#launchStep('sign_of_life')
      return launched.process
    } catch (error) {
      return await this.#refused('plan', error)
    } finally {
      clearTimeout(timer)
    }
  }

  /** All that can be refused before anything is done. */
  async #prepare(): Promise<{ record: SessionRecord; spec: SessionSpec }> {
    const { config, survives, lostGraceMs, host, owner, ports, plan } = this.#options
    this.#launchStep('plan')
    const { id: job, name, queue, data, group, attempt, fence } = this.task
    const { command, args, env, input, folder, workspace, tmux } = plan({ id: job, name, queue, data, group, attempt, fence })
    const program = await ports.sessions.resolve(command, env, tmux !== undefined)
    const record = { queue, job, fence, owner, host, folder, workspace }
    this.#record = record
    return {
      record,
      spec: {
        folder,
        cwd: workspace.path,
        command: program,
        args,
        env: { ...env, UNSTUCK_SOCKET: await this.#link(folder) },
        input,
        logBytes: config.logBytes,
        lostGraceMs,
        survives,
        ...(tmux === undefined ? {} : { tmux }),
      },
    }
  }

  async #refused(step: LaunchStep, thrown: unknown): Promise<SessionEnded> {
    const { events } = this.#options
    const error = thrown instanceof Error ? thrown : new Error(String(thrown))
    await this.#unlink()
    events.rolledBack(this.task, step, error)
    if (this.#order !== undefined) return orderedEnd(this.#order)
    return failed(`launch refused at ${step}: ${error.message}`, error instanceof LaunchError && error.permanent)
  }

  // ---- signs of life

  /** Somebody who acts for the session says that it lives. @param progress a token that changes with real progress */
  beat(progress: string | undefined): void {
    if (progress === undefined && this.#progress !== undefined) return
    if (progress !== undefined && progress === this.#progress) return
    this.#progress = progress ?? this.#progress
    this.#showLife()
  }

  /** Looks for signs of life, if it is time to. To be called often. */
  look(): void {
    const now = this.#options.monotonicMs()
    if (now >= this.#killAt) {
      this.#killAt = Number.POSITIVE_INFINITY
      this.#process?.kill()
    }
    if (this.#looking || this.#ended || now < this.#lookAt || !this.#process || !this.#record) return
    this.#looking = true
    this.#look(this.#record.folder)
      .catch(this.#options.events.error)
      .finally(() => {
        this.#looking = false
        this.#lookMs = Math.min(this.#options.lookMs, this.#lookMs * 2)
        this.#lookAt = this.#options.monotonicMs() + this.#lookMs
      })
  }

  async #look(folder: string): Promise<void> {
    const signs = await this.#options.ports.sessions.signs(folder)
    const { output, touched } = this.#lastSigns
    this.#lastSigns = signs
    if (signs.output !== output) this.#outputDue = true
    const isNew = signs.output !== output || signs.touched !== touched
    if (isNew && this.#progress === undefined && !this.#ended) this.#showLife()
    if (!this.#outputDue || this.#keeping || this.#ended || this.#options.monotonicMs() - this.#keptAt < OUTPUT_EVERY_MS) return
    this.#keeping = true
    // Not waited for: signs of life are looked for also while the store is silent.
    this.#keepOutput(folder)
      .catch((error: unknown) => {
        this.#outputDue = true
        this.#options.events.error(error)
      })
      .finally(() => {
        this.#keeping = false
      })
  }

  #showLife(): void {
    const { board } = this.#options
    if (this.#shownLife) {
      board.jobAlive(this.task)
      return
    }
    this.#shownLife = true
    board.jobAlone(this.task)
    this.#step(undefined)
  }

  /** A session that has shown life before its launch is over is not launching any more. */
  #launchStep(step: LaunchStep): void {
    if (!this.#shownLife) this.#step(`launch ${step}`)
  }

  #step(name: string | undefined): void {
    const { board } = this.#options
    board.jobStep(this.task, name, board.stamp())
  }

  async #keepOutput(folder: string): Promise<string> {
    const { sessions, records } = this.#options.ports
    this.#keptAt = this.#options.monotonicMs()
    this.#outputDue = false
    const output = await sessions.tail(folder, SHOWN_OUTPUT)
    if (output !== this.#keptOutput) await records.output(this.#claim, output)
    this.#keptOutput = output
    return output
  }

  /** Whether the claim still stands, asked of the store. */
  holds(): Promise<boolean> {
    return this.#options.ports.records.holds(this.#claim)
  }

  // ---- the end

  /** What the board's word to stop means here. To be called often. */
  passOnAbort(): void {
    const reason = this.#options.board.abortReason(this.task)
    if (reason) this.#stop(reason)
  }

  /** The whole process group is asked to end, and ended after the grace; at once when it was asked before. */
  kill(reason: string): void {
    if (this.#order === undefined) this.#stop(reason)
    else this.killNow(reason)
  }

  /** Nobody can wait any longer. */
  killNow(reason: string): void {
    this.#stop(reason)
    this.#atOnce = true
    this.#process?.kill()
  }

  #stop(reason: string): void {
    // What it came to is settled by its end, also while it is cleaned up.
    if (this.#order !== undefined || this.#ended) return
    this.#order = reason
    this.#stopping.abort(new LaunchError(reason))
    if (this.#process) this.#term(this.#process)
  }

  #term(process: SessionProcess): void {
    this.#killAt = this.#options.monotonicMs() + this.#options.config.graceMs
    process.term()
  }

  async #cleanUp(end: SessionEnd): Promise<SessionEnded> {
    const { config, ports, events } = this.#options
    const record = this.#record
    if (!record) return orderedEnd('its record is gone')
    this.#step('clean up')
    const worked = end.kind === 'exit' && end.code === 0
    const keep = config.keep === 'always' || (config.keep === 'failed' && !worked)
    const output = await this.#keepOutput(record.folder).catch((error: unknown) => {
      events.error(error)
      return ''
    })
    let left: WorkspaceEnd = {}
    try {
      left = await ports.workspaces.end(record.workspace, { keep })
      if (!keep) await ports.sessions.remove(record.folder)
      await ports.records.close(record)
    } catch (error) {
      events.leftBehind(this.task, 'workspace', error)
    }
    await this.#unlink()
    return this.#verdict(end, left, output)
  }

  #link(folder: string): Promise<string> {
    this.#linked = folder
    return this.#options.link(folder)
  }

  async #unlink(): Promise<void> {
    if (this.#linked !== undefined) await this.#options.unlink(this.#linked).catch(this.#options.events.error)
  }

  #verdict(end: SessionEnd, left: WorkspaceEnd, output: string): SessionEnded {
    if (this.#order !== undefined) return orderedEnd(this.#order)
    const kind = this.task.alone ? 'alone' : 'lost'
    if (end.kind === 'lost') return { ok: 'lost', loss: { kind, message: end.message, ordered: false } }
    if (end.code === 0) return { ok: true, json: JSON.stringify({ exitCode: 0, ...left }) }
    const lastLine = output.trimEnd().split('\n').at(-1)?.trim().slice(0, SHOWN_LINE) ?? ''
    const message = `the session ended with exit code ${end.code}${lastLine === '' ? '' : `: ${lastLine}`}`
    if (this.#options.config.permanentExitCodes.includes(end.code)) return failed(message, true)
    if (DEATHS.has(end.code)) return { ok: 'lost', loss: { kind, message, ordered: false } }
    return failed(message, false)
  }
}

function failed(message: string, permanent: boolean): SessionEnded {
  return { ok: false, error: { name: 'SessionError', message, stack: '', permanent } }
}

function orderedEnd(reason: string): SessionEnded {
  return { ok: 'lost', loss: { kind: 'lost', message: `session ended: ${reason}`, ordered: true } }
}
