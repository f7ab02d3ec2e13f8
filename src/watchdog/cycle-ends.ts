/**
 * What the end of a watch cycle proves to those who watch the watchdog. Pure but for its memory.
 *
 * That it **judged**: it read the store, saw well enough to accuse anybody, and came to its end. The dead man's switch
 * goes by that. That it **turned**: it came to its end, or Redis did not answer it. systemd goes by that, as a new process
 * would not reach Redis either, and would know nothing of the outage that this one has reported.
 */
import type { WatchView } from './watch-loop.js'

export interface CycleEnd {
  readonly judged: boolean
  readonly turned: boolean
}

export class CycleEnds {
  #lastCycleAt: number | undefined

  /** To be asked at the end of each cycle, however it ended. */
  look({ sight, lastCycleAt }: WatchView): CycleEnd {
    const completed = lastCycleAt !== undefined && lastCycleAt !== this.#lastCycleAt
    this.#lastCycleAt = lastCycleAt
    return { judged: completed && sight.judges === 'all', turned: completed || sight.reason === 'unreachable' }
  }
}
