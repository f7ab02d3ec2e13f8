/** The long ones at full length: A15, A16, B4 with the product's own defaults. About an hour. */
import { availableParallelism } from 'node:os'
import { describe, it } from 'vitest'
import { busyIsQuiet, FULL, idleIsQuiet, outageUnderAFleet, pausedWatchdogAccusesNobody } from '../support/long.js'

describe('a healthy fleet is silent, for long', () => {
  it('A15 idle threads, threads coming and going, 10 min of silence on an empty queue: nothing is reported', () =>
    idleIsQuiet({ ...FULL, durationMs: 10 * 60_000 }))

  it('A16 four times more busy threads than cores and jobs at 0.9 of every threshold for 30 min: no STUCK at all', () =>
    busyIsQuiet(FULL, availableParallelism()))

  it('B4 a watchdog SIGSTOPped for 3 min says watchdog_blind on waking and accuses nobody for one interval', () =>
    pausedWatchdogAccusesNobody(FULL, 3 * 60_000))

  it('B3 Redis away for 60 s under 50 supervisors with running jobs: one line per watchdog, no job started twice', () =>
    outageUnderAFleet(50, 60_000))
})
