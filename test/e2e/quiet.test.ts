/** What holds for long, with scaled thresholds; test/soak has the full length. */
import { availableParallelism } from 'node:os'
import { describe, it } from 'vitest'
import { busyIsQuiet, idleIsQuiet, pausedWatchdogAccusesNobody, SCALED } from '../support/long.js'

describe('a healthy fleet is silent', () => {
  it('A15 idle threads, threads coming and going, silence on an empty queue: nothing is reported', () => idleIsQuiet(SCALED))

  it('A16 four times more busy threads than cores and jobs at 0.9 of every threshold: no STUCK at all', () =>
    busyIsQuiet(SCALED, availableParallelism()))

  it('B4 a stopped watchdog says watchdog_blind on waking and accuses nobody for one interval; the other sees it gone', () =>
    pausedWatchdogAccusesNobody(SCALED, 6000))
})
