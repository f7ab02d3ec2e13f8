/**
 * The voice of a job that runs in a process of its own: what it says goes over the channel to the supervisor, which
 * writes it on the board.
 *
 * A message leaves at once, so that the last one before a job blocks its event loop still arrives. A job that says
 * something a million times a second must not drown the channel, though: beyond a few in each window only the newest is
 * kept and told later.
 */
import type { AbortReason, JobCellRef } from '../heartbeat/beat-board.js'
import type { SoloNews } from './solo-protocol.js'
import type { JobVoice } from './thread-context.js'

/** So many messages leave at once in each window. */
const BURST = 20

export class ChannelVoice implements JobVoice {
  readonly #send: (news: SoloNews) => void
  readonly #monotonicMs: () => number
  readonly #windowMs: number
  #windowSince: number
  #sent = 0
  /** What was not told yet. A step is a sign of life too. */
  #untold: 'nothing' | 'alive' | 'step' = 'nothing'
  #step: string | undefined
  #stepSince = 0
  #abort: AbortReason | undefined

  /** @param windowMs `flush` is to be called as often */
  constructor(send: (news: SoloNews) => void, monotonicMs: () => number, windowMs: number) {
    this.#send = send
    this.#monotonicMs = monotonicMs
    this.#windowMs = windowMs
    this.#windowSince = this.stamp()
  }

  stamp(): number {
    return Math.floor(this.#monotonicMs()) | 0
  }

  jobAlive(_job: JobCellRef): void {
    if (this.#untold === 'nothing') this.#untold = 'alive'
    this.flush()
  }

  jobStep(_job: JobCellRef, name: string | undefined, since: number): void {
    this.#step = name
    this.#stepSince = since
    this.#untold = 'step'
    this.flush()
  }

  abortReason(_job: JobCellRef): AbortReason | undefined {
    return this.#abort
  }

  /** The supervisor wants the job to stop. */
  abort(reason: AbortReason): void {
    this.#abort ??= reason
  }

  /** Tells what was held back, as far as the window allows. */
  flush(): void {
    const untold = this.#untold
    if (untold === 'nothing') return
    const now = this.stamp()
    if (((now - this.#windowSince) | 0) >= this.#windowMs) {
      this.#windowSince = now
      this.#sent = 0
    }
    if (this.#sent >= BURST) return
    this.#sent += 1
    this.#untold = 'nothing'
    if (untold === 'alive') this.#send({ unstuck: 'alive' })
    else this.#send({ unstuck: 'step', name: this.#step, ageMs: this.#step === undefined ? 0 : (now - this.#stepSince) >>> 0 })
  }
}
