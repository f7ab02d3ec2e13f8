/** How far behind the loops of one beat are, in few words: what a scrape of thousands of supervisors reads instead of the beats. Pure. */
import { type Beat, loopStaleness } from './beat.js'

/** A loop, its queue or '', how long it has made no progress past what it may block for (ms), and whether that is too long. */
export type LoopLag = readonly [loop: string, queue: string, lagMs: number, stale: 0 | 1]

export function lagsOf(beat: Pick<Beat, 'loops'>): LoopLag[] {
  return beat.loops.map((progress) => {
    const { ageMs, thresholdMs } = loopStaleness(progress) ?? { ageMs: 0, thresholdMs: 0 }
    return [progress.loop, progress.queue ?? '', ageMs, ageMs > thresholdMs ? 1 : 0]
  })
}

/** What one supervisor shows of itself to a scrape. */
export interface SupervisorLags {
  readonly name: string
  readonly heartbeatAgeMs: number
  /** None of one that is dead: its silence is the trouble, not its loops. */
  readonly loops: readonly LoopLag[]
}
