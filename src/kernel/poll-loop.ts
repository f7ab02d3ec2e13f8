/**
 * A loop that must come round again and again. It owns the one thing that went wrong in the failure that started this
 * project: a cycle that hangs on an await while the re-entrancy guard skips every tick in silence. Here the guard
 * counts what it skips, the start is stamped before the first await, and the end in `finally`; whoever judges the
 * loop reads those stamps and never asks the loop itself.
 */
import { Service } from './service.js'
import { within } from './within.js'

/** Where a loop writes its progress. The board implements it; tests use a recorder. */
export interface LoopProbe {
  /** A cycle begins. */
  started(): void
  /** What the cycle does now. */
  phase(name: string): void
  /** The cycle ended, well or not. */
  ended(): void
  /** A tick came while a cycle was in flight. */
  skipped(): void
}

export interface PollLoopOptions {
  readonly intervalMs: number
  /** How long a stop waits for the cycle in flight, milliseconds. */
  readonly stopTimeoutMs: number
  readonly probe: LoopProbe
  /** One cycle. It names what it does through `phase`. */
  readonly cycle: (phase: (name: string) => void) => Promise<void>
  /** A cycle threw. That is no wedge: the next one runs. */
  readonly onError: (error: unknown) => void
}

export class PollLoop extends Service {
  readonly #options: PollLoopOptions
  #timer: NodeJS.Timeout | undefined
  #inFlight: Promise<void> | undefined

  constructor(options: PollLoopOptions) {
    super()
    this.#options = options
  }

  protected override onStart(): void {
    this.#timer = setInterval(() => this.tick(), this.#options.intervalMs)
    this.tick()
  }

  /** Begins a cycle unless one is in flight. Also called by whoever knows that there is something to do now. */
  tick(): void {
    if (this.state === 'stopping' || this.state === 'stopped') return
    if (this.#inFlight) {
      this.#options.probe.skipped()
      return
    }
    this.#inFlight = this.#cycle().finally(() => {
      this.#inFlight = undefined
    })
  }

  async #cycle(): Promise<void> {
    const { probe, cycle, onError } = this.#options
    probe.started()
    try {
      await cycle((name) => probe.phase(name))
    } catch (error) {
      onError(error)
    } finally {
      probe.ended()
    }
  }

  /** Waits for the real cycle in flight, at most `stopTimeoutMs`. */
  protected override async onStop(): Promise<void> {
    clearInterval(this.#timer)
    if (this.#inFlight) await within(this.#inFlight, this.#options.stopTimeoutMs)
  }
}
