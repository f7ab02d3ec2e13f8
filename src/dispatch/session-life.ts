/**
 * The signs of life of one session, and its last output: any output, a touch of its heartbeat file and `unstuck beat` are
 * signs; once it has named its progress, only another progress is one. They are looked for less and less often, and a
 * look never waits for the store.
 */
import type { BeatBoard, JobCellRef } from '../heartbeat/beat-board.js'
import type { SessionSigns, Sessions } from '../launch/session.js'
import type { SessionClaim, SessionRecords } from '../launch/session-records.js'

export interface SessionLifeOptions {
  readonly job: JobCellRef
  readonly claim: SessionClaim
  readonly board: BeatBoard
  readonly sessions: Pick<Sessions, 'signs' | 'tail'>
  readonly records: Pick<SessionRecords, 'output'>
  /** A running session is looked at as often, milliseconds. */
  readonly lookMs: number
  readonly monotonicMs: () => number
  readonly onError: (error: unknown) => void
}

/** The output that the job's view shows, bytes. */
const SHOWN_OUTPUT = 4096
/** It is taken so often at most while the session runs, milliseconds. */
const OUTPUT_EVERY_MS = 5000
/** A launched session is looked at after so long at first, then less and less often, milliseconds. */
const FIRST_LOOK_MS = 50

export class SessionLife {
  readonly #options: SessionLifeOptions
  #signs: SessionSigns = { output: '', touched: '' }
  #progress: string | undefined
  #shown = false
  #over = false
  #looking = false
  #lookAt = Number.POSITIVE_INFINITY
  #lookMs = FIRST_LOOK_MS
  #keptOutput = ''
  #keptAt = Number.NEGATIVE_INFINITY
  /** There was output since it was kept. */
  #outputDue = false
  #keeping = false

  constructor(options: SessionLifeOptions) {
    this.#options = options
  }

  /** It runs from now on. */
  begin(): void {
    this.#lookAt = this.#options.monotonicMs() + FIRST_LOOK_MS
  }

  /** Its process has ended, which is a sign of life too. */
  end(): void {
    this.#over = true
    this.show()
  }

  /** The first sign ends the launch. */
  show(): void {
    const { board, job } = this.#options
    if (this.#shown) {
      board.jobAlive(job)
      return
    }
    this.#shown = true
    board.jobAlone(job)
    board.jobStep(job, undefined, board.stamp())
  }

  /** What the launch is at. A session that has shown life before its launch is over is not launching any more. */
  launching(step: string): void {
    const { board, job } = this.#options
    if (!this.#shown) board.jobStep(job, `launch ${step}`, board.stamp())
  }

  /** Somebody who acts for the session says that it lives. @param progress a token that changes with real progress */
  beat(progress: string | undefined): void {
    if (progress === undefined && this.#progress !== undefined) return
    if (progress !== undefined && progress === this.#progress) return
    this.#progress = progress ?? this.#progress
    this.show()
  }

  /** Looks for signs of life, if it is time to. To be called often. */
  look(folder: string): void {
    if (this.#looking || this.#over || this.#options.monotonicMs() < this.#lookAt) return
    this.#looking = true
    this.#look(folder)
      .catch(this.#options.onError)
      .finally(() => {
        this.#looking = false
        this.#lookMs = Math.min(this.#options.lookMs, this.#lookMs * 2)
        this.#lookAt = this.#options.monotonicMs() + this.#lookMs
      })
  }

  async #look(folder: string): Promise<void> {
    const signs = await this.#options.sessions.signs(folder)
    const { output, touched } = this.#signs
    this.#signs = signs
    if (signs.output !== output) this.#outputDue = true
    const isNew = signs.output !== output || signs.touched !== touched
    if (isNew && this.#progress === undefined && !this.#over) this.show()
    if (!this.#outputDue || this.#keeping || this.#over) return
    if (this.#options.monotonicMs() - this.#keptAt >= OUTPUT_EVERY_MS) this.#keepSoon(folder)
  }

  /** Not waited for: signs of life are looked for also while the store is silent. */
  #keepSoon(folder: string): void {
    this.#keeping = true
    this.keepOutput(folder)
      .catch((error: unknown) => {
        this.#outputDue = true
        this.#options.onError(error)
      })
      .finally(() => {
        this.#keeping = false
      })
  }

  /** @returns the last output, which whoever looks at the job can see from now on */
  async keepOutput(folder: string): Promise<string> {
    const { sessions, records, claim, monotonicMs } = this.#options
    this.#keptAt = monotonicMs()
    this.#outputDue = false
    const output = await sessions.tail(folder, SHOWN_OUTPUT)
    if (output !== this.#keptOutput) await records.output(claim, output)
    this.#keptOutput = output
    return output
  }
}
