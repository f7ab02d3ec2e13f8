/** A loop of ours on the board: one cycle at a time, as PollLoop runs it. */
import type { LoopProbe } from '../kernel/poll-loop.js'
import type { BeatBoard } from './beat-board.js'
import type { LoopWriter } from './board-cells.js'

/** @param writer of the loop's own cells. A phase that the board has no word for is shown as none. */
export function boardLoopProbe(writer: LoopWriter, board: BeatBoard): LoopProbe {
  let since = 0
  return {
    started() {
      since = board.stamp()
      writer.oldest(1, since, '', 0)
      writer.started()
    },
    phase: (name) => writer.oldest(1, since, name, 0),
    ended() {
      writer.ended()
      writer.oldest(0, since, '', 0)
    },
    skipped: () => writer.skipped(),
  }
}
