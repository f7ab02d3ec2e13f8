/**
 * The progress of a watched fetch loop, for next to nothing: a call only moves a counter when it goes out and when it comes
 * back. What the counters say is written on the board at each tick of the main thread, so it is a tick old at most, and a
 * call looks younger by a tick than it is, never older.
 *
 * The calls of one tick share a window. A window in which a call is still out when the tick comes is kept until it is empty;
 * the oldest of those is what hangs. The wait that blocks on purpose is the exception: it is rare, and written at once.
 */
import type { LoopWriter, Phase } from '../heartbeat/beat-board.js'

/** Calls of one phase that went out between two ticks. */
class Window {
  readonly phase: Phase
  readonly back: () => void
  out = 0
  /** The tick that closed it. */
  since = 0

  constructor(phase: Phase, onBack: () => void) {
    this.phase = phase
    // One for all its calls.
    this.back = () => {
      this.out -= 1
      onBack()
    }
  }
}

interface Blocking {
  readonly since: number
  readonly limitMs: number
}

export class FetchTally {
  readonly #writer: LoopWriter
  readonly #stamp: () => number
  readonly #open = new Map<Phase, Window>()
  #closed: Window[] = []
  #blocking: Blocking | undefined
  #begun = 0
  #ended = false

  /** @param stamp now, as the board keeps times */
  constructor(writer: LoopWriter, stamp: () => number) {
    this.#writer = writer
    this.#stamp = stamp
  }

  /** A call went out just now, and comes back, well or not. @returns what was given */
  sent<T>(phase: Phase, call: T): T {
    // What is no promise has come back already.
    if (!(call instanceof Promise)) return call
    const window = this.#windowOf(phase)
    window.out += 1
    this.#begun += 1
    call.then(window.back, window.back)
    return call
  }

  #windowOf(phase: Phase): Window {
    let window = this.#open.get(phase)
    if (!window) {
      window = new Window(phase, () => {
        this.#ended = true
      })
      this.#open.set(phase, window)
    }
    return window
  }

  /** A wait that may block for so long. */
  async block<T>(limitMs: number, wait: () => Promise<T>): Promise<T> {
    const blocking: Blocking = { since: this.#stamp(), limitMs }
    this.#blocking = blocking
    this.#begun += 1
    this.#write()
    try {
      return await wait()
    } finally {
      if (this.#blocking === blocking) this.#blocking = undefined
      this.#ended = true
      this.#write()
    }
  }

  /** From now on something is out that never comes back by itself. */
  hang(phase: Phase): void {
    this.#windowOf(phase).out += 1
  }

  tick(): void {
    const now = this.#stamp()
    this.#closed = this.#closed.filter(({ out }) => out > 0)
    for (const [phase, window] of this.#open) {
      if (window.out === 0) continue
      window.since = now
      this.#closed.push(window)
      this.#open.delete(phase)
    }
    this.#write()
  }

  #write(): void {
    if (this.#begun > 0) this.#writer.started(this.#begun)
    this.#begun = 0
    if (this.#ended) this.#writer.ended()
    this.#ended = false
    const oldest = this.#closed.find(({ out }) => out > 0)
    const blocking = this.#blocking
    const isBlockingFirst = blocking && (!oldest || ((blocking.since + blocking.limitMs - oldest.since) | 0) < 0)
    if (isBlockingFirst) this.#writer.oldest(1, blocking.since, 'waitForJob', blocking.limitMs)
    else if (oldest) this.#writer.oldest(1, oldest.since, oldest.phase, 0)
    else this.#writer.oldest(0, this.#stamp(), '', 0)
  }
}
