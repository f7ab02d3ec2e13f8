/**
 * One session of one attempt, from its launch to the last thing that is cleaned up after it.
 *
 *   launching ──first sign of life──▶ running ──its process group is gone──▶ cleaning ──▶ done
 *       └ refused: all undone ▶ done
 *
 * It owns the order of things, and what the session is told: TERM, and KILL after the grace.
 */
import type { BeatBoard } from '../heartbeat/beat-board.js'
import { messageOf } from '../kernel/errors.js'
import { NO_TRACER, type Tracer } from '../kernel/telemetry.js'
import { type LaunchPorts, launch } from '../launch/launch.js'
import type { LaunchPlan, SessionJob } from '../launch/launch-plan.js'
import {
  LaunchError,
  type LaunchStep,
  type SessionEnd,
  type SessionProcess,
  type SessionRecord,
  type SessionSpec,
  type WorkspaceEnd,
} from '../launch/session.js'
import type { SessionClaim } from '../launch/session-records.js'
import type { SessionConfig } from '../platform/config.js'
import { insist } from './insist.js'
import { SessionSpans } from './job-spans.js'
import { SessionLife } from './session-life.js'
import { failed, orderedEnd, type SessionEnded, verdictOf } from './session-outcome.js'
import type { ThreadTask } from './thread-protocol.js'

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
  /** Default: nothing is traced. */
  readonly tracer?: Tracer
  readonly events: SessionEvents
}

export interface SessionEvents {
  /** A launch was refused and undone. */
  rolledBack(job: ThreadTask, step: LaunchStep, error: Error): void
  /** Something of a session could not be removed; the reconcile loop tries again. */
  leftBehind(job: ThreadTask, what: string, error: unknown): void
  error(error: unknown): void
}

const LET_GO: unique symbol = Symbol('let go')
const adoptedByOther = () => orderedEnd('another supervisor has adopted it')

export class SessionRun {
  readonly task: ThreadTask
  /** Never rejects. */
  readonly done: Promise<SessionEnded>
  readonly #options: SessionRunOptions
  readonly #claim: SessionClaim
  readonly #life: SessionLife
  readonly #stopping = new AbortController()
  readonly #spans: SessionSpans
  #process: SessionProcess | undefined
  #record: SessionRecord | undefined
  /** Whose link leads here. */
  #linked: string | undefined
  /** Why we ended it. */
  #order: string | undefined
  /** Without a grace. */
  #atOnce = false
  #killAt = Number.POSITIVE_INFINITY
  #ended = false
  #yielding = false
  #goLet: () => void = () => undefined
  /** Settles when it is not ours any more to look after. */
  readonly #letGo = new Promise<typeof LET_GO>((resolve) => {
    this.#goLet = () => resolve(LET_GO)
  })

  /** @param adopted the record of a session that runs already, under this very claim */
  constructor(task: ThreadTask, token: string, options: SessionRunOptions, adopted?: SessionRecord) {
    this.task = task
    this.#claim = { id: task.id, token, fence: task.fence }
    this.#options = options
    this.#record = adopted
    const { board, ports, lookMs, monotonicMs, events, tracer = NO_TRACER } = options
    this.#spans = new SessionSpans(tracer, task, adopted !== undefined)
    this.#life = new SessionLife({
      job: task,
      claim: this.#claim,
      board,
      sessions: ports.sessions,
      records: ports.records,
      lookMs,
      monotonicMs,
      onError: events.error,
    })
    this.done = this.#spans.session(() => this.#run()).catch((error: unknown) => failed(messageOf(error), false))
  }

  async #run(): Promise<SessionEnded> {
    this.#options.board.jobLaunching(this.task)
    const process = this.#record ? await this.#attach(this.#record) : await this.#spans.launch(() => this.#launch())
    if (!process) return orderedEnd('it could not be found again')
    if ('ok' in process) return process
    this.#process = process
    // Whoever wanted its end while it was launched did not reach it.
    if (this.#atOnce) process.kill()
    else if (this.#order !== undefined) this.#term(process)
    this.#life.begin()
    const end = await Promise.race([process.ended, this.#letGo])
    if (end === LET_GO) return adoptedByOther()
    this.#ended = true
    this.#life.end()
    return (await this.#isTaken()) ? adoptedByOther() : this.#cleanUp(end)
  }

  async #attach(record: SessionRecord): Promise<SessionProcess | undefined> {
    const { ports, events } = this.#options
    if (!record.process) return undefined
    // Without its link it cannot beat or ask, but it works, and shows other signs of life.
    await this.#link(record.folder).catch(events.error)
    this.#life.show()
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
          onStep: (step) => this.#launching(step),
          onUndoFailed: (step, error) => events.leftBehind(this.task, step, error),
        },
        ports,
      )
      if (launched.kind === 'refused') return await this.#refused(launched.step, launched.error)
      this.#record = launched.record
      this.#launching('sign_of_life')
      return launched.process
    } catch (error) {
      return await this.#refused('plan', error)
    } finally {
      clearTimeout(timer)
    }
  }

  #launching(step: LaunchStep): void {
    this.#life.launching(step)
    this.#spans.step(step)
  }

  /** All that can be refused before anything is done. */
  async #prepare(): Promise<{ record: SessionRecord; spec: SessionSpec }> {
    const { config, survives, lostGraceMs, host, owner, ports, plan } = this.#options
    this.#launching('plan')
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
        env: { ...env, ...this.#spans.env, UNSTUCK_SOCKET: await this.#link(folder) },
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
    this.#spans.refused(step, error)
    if (this.#order !== undefined) return orderedEnd(this.#order)
    return failed(`launch refused at ${step}: ${error.message}`, error instanceof LaunchError && error.permanent)
  }

  /** Somebody who acts for the session says that it lives. @param progress a token that changes with real progress */
  beat(progress: string | undefined): void {
    this.#life.beat(progress)
  }

  /** Looks for signs of life and ends what was told to end, if it is time to. To be called often. */
  look(): void {
    if (this.#options.monotonicMs() >= this.#killAt) {
      this.#killAt = Number.POSITIVE_INFINITY
      this.#process?.kill()
    }
    if (this.#process && this.#record) this.#life.look(this.#record.folder)
  }

  /** Whether the claim still stands, asked of the store. */
  holds(): Promise<boolean> {
    return this.#options.ports.records.holds(this.#claim)
  }

  // ---- the end

  /** What the board's word to stop means here. To be called often. */
  passOnAbort(): void {
    const reason = this.#options.board.abortReason(this.task)
    if (reason === undefined || this.#order !== undefined) return
    if (reason === 'lost its lock' && this.#options.survives) void this.#yieldOrStop(reason)
    else this.#stop(reason)
  }

  /** Cut off for a while, and the session may be another supervisor's by now: what that one adopted is not ours to end. */
  async #yieldOrStop(reason: string): Promise<void> {
    if (this.#yielding) return
    this.#yielding = true
    const { records } = this.#options.ports
    const taken = this.#record && this.#process ? await records.taken(this.#record).catch(() => undefined) : false
    this.#yielding = false
    if (taken === false) this.#stop(reason)
    if (taken === true) this.#goLet()
  }

  /**
   * One that has ended may have been adopted before, while this supervisor was cut off. Then another reads its exit code
   * and its workspace, so nothing is removed until the store has said whose they are; nor when it can no longer be asked.
   */
  async #isTaken(): Promise<boolean> {
    const { survives, ports, events } = this.#options
    const record = this.#record
    if (!survives || !record) return false
    try {
      return await insist(() => ports.records.taken(record), { over: () => this.#atOnce, onError: events.error })
    } catch (error) {
      events.error(error)
      return true
    }
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
    const { config, ports, events, board } = this.#options
    const record = this.#record
    if (!record) return orderedEnd('its record is gone')
    board.jobStep(this.task, 'clean up', board.stamp())
    const worked = end.kind === 'exit' && end.code === 0
    const keep = config.keep === 'always' || (config.keep === 'failed' && !worked)
    const output = await this.#life.keepOutput(record.folder).catch((error: unknown) => {
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
    if (this.#order !== undefined) return orderedEnd(this.#order)
    return verdictOf(end, left, output, { permanentExitCodes: config.permanentExitCodes, alone: this.task.alone === true })
  }

  #link(folder: string): Promise<string> {
    this.#linked = folder
    return this.#options.link(folder)
  }

  async #unlink(): Promise<void> {
    if (this.#linked !== undefined) await this.#options.unlink(this.#linked).catch(this.#options.events.error)
  }
}
