/**
 * The progress of BullMQ's fetch loop, which is not one call: with free slots it blocks in waitForJob, under load the
 * next job comes back from moveToFinished, moveToDelayed or retryJob, and many of these may be out at once. What is
 * judged is the call that ought to have come back first.
 */
import type { BeatBoard, LoopWriter, Phase } from '../heartbeat/beat-board.js'

/** A call that is out. */
export interface Call {
  readonly since: number
  readonly phase: Phase
  readonly limitMs: number
}

export class FetchProgress {
  readonly #board: BeatBoard
  readonly #writer: LoopWriter
  /** In the order in which they went out; the first is the oldest. */
  readonly #calls = new Set<Call>()
  /** The one call that may block on purpose. */
  #blocking: Call | undefined
  #shown: Call | undefined
  #limited = false
  #draining = false

  constructor(board: BeatBoard, writer: LoopWriter) {
    this.#board = board
    this.#writer = writer
  }

  /** A call to BullMQ's backend goes out. @param limitMs how long it may block on purpose */
  begin(phase: Phase, limitMs: number): Call {
    const call: Call = { since: this.#board.stamp(), phase, limitMs }
    if (limitMs > 0) this.#blocking = call
    else this.#calls.add(call)
    if (this.#limited) {
      this.#limited = false
      if (!this.#draining) this.#writer.state('polling')
    }
    this.#writer.started()
    this.#show()
    return call
  }

  /** It came back, well or not. */
  end(call: Call): void {
    if (this.#blocking === call) this.#blocking = undefined
    else this.#calls.delete(call)
    this.#writer.ended()
    this.#show()
  }

  async watch<T>(phase: Phase, limitMs: number, call: () => Promise<T>): Promise<T> {
    const out = this.begin(phase, limitMs)
    try {
      return await call()
    } finally {
      this.end(out)
    }
  }

  /** The queue told this worker to rest. */
  limitedFor(ms: number): void {
    this.#limited = true
    this.#writer.limitedFor(ms)
    if (!this.#draining) this.#writer.state('limited')
  }

  /** It takes no more jobs: from now on it rests on purpose, whatever calls still go out for those that run. */
  drain(): void {
    this.#draining = true
    this.#writer.state('draining')
  }

  #show(): void {
    const due = this.#firstDue()
    if (due === this.#shown) return
    this.#shown = due
    if (due) this.#writer.oldest(1, due.since, due.phase, due.limitMs)
    else this.#writer.oldest(0, this.#board.stamp(), '', 0)
  }

  #firstDue(): Call | undefined {
    const [oldest] = this.#calls
    const blocking = this.#blocking
    if (!oldest || !blocking) return oldest ?? blocking
    return ((blocking.since + blocking.limitMs - oldest.since) | 0) < 0 ? blocking : oldest
  }
}
