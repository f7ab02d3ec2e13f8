/** What one reads from the board, and the hands with which its owners write to it. */
import type { LoopState } from './beat.js'

export interface LoopCells {
  readonly state: LoopState
  /** Age of the last change of state, or of the board. */
  readonly stateAgeMs: number
  readonly cycles: number
  readonly skipped: number
  readonly inFlight: number
  /** Age of the oldest call in flight, or of the last that was. */
  readonly sinceAgeMs: number
  /** Undefined: no call or cycle has come back yet. */
  readonly endedAgeMs: number | undefined
  readonly phase: string
  readonly limitMs: number
  /** Milliseconds that a rate limit still holds; negative when it is over. */
  readonly limitedForMs: number
}

export interface ThreadCells {
  readonly cell: number
  readonly queue: number
  /** 1-based place in its queue's range; a successor takes the lowest free one. */
  readonly number: number
  readonly generation: number
  readonly threadId: number
  /** The kernel's id; 0 when it is not known. */
  readonly tid: number
  readonly jobs: number
  readonly tickAgeMs: number
}

export interface JobCells {
  readonly cell: number
  readonly queue: number
  /** Index of the thread cell; or NO_THREAD, ALONE, LAUNCHING, ON_MAIN. */
  readonly thread: number
  readonly fence: number
  readonly attempt: number
  readonly runningMs: number
  readonly silentMs: number
  readonly lockAgeMs: number
  readonly id: string
  readonly step: string | undefined
  readonly stepMs: number
}

/** A job's cell together with the claim under which it may be written. */
export interface JobCellRef {
  readonly cell: number
  readonly claim: number
}

/** How a loop writes its progress. At the end of a call: `ended` first, then `oldest` with what is still out. */
export interface LoopWriter {
  /** What the loop is meant to do; staleness at rest counts from the last change at the earliest. */
  state(state: LoopState): void
  /** A cycle or a call begins, or so many did. @param count default 1 */
  started(count?: number): void
  /**
   * What is out: how many calls, and of the one that must come back first (the earliest since + limit) since when
   * (a stamp), in which phase, with which time limit. With none in flight only the count is taken.
   */
  oldest(inFlight: number, since: number, phase: string, limitMs: number): void
  /** A cycle or a call came back. */
  ended(): void
  skipped(): void
  /** A rate limit holds for so long. To be said before the state `limited`. */
  limitedFor(ms: number): void
}
