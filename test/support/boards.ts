/** A board and the identity that goes with it, for tests of what reads it. */
import { BeatBoard } from '../../src/heartbeat/beat-board.js'
import type { SentinelIdentity } from '../../src/heartbeat/sentinel-protocol.js'
import { FakeTime } from './fake-time.js'

export const FETCH = 0
export const RECONCILE = 1
export const QUEUE = 0

export const identity: SentinelIdentity = {
  supervisor: 'alpha',
  incarnation: 'i1',
  host: 'h1',
  pid: 42,
  version: '0.0.0',
  heartbeat: { intervalMs: 1000, timeoutMs: 5000, loopBlockedMs: 5000, threadBlockedMs: 10_000 },
  loops: { pollStaleThresholdMs: 60_000, startGraceMs: 30_000 },
  queues: [{ name: 'mail', slots: 2, silentAfterMs: 300_000, lockDurationMs: 30_000, onStuck: 'report' }],
}

/** One queue `mail` with two threads and two slots, a fetch and a reconcile loop. */
export function testBoard(time = new FakeTime()): { board: BeatBoard; time: FakeTime } {
  const board = BeatBoard.create(
    {
      queues: [{ name: 'mail', threads: 2, slots: 2 }],
      loops: [{ loop: 'fetch', queue: 'mail' }, { loop: 'reconcile' }],
    },
    time.monotonicMs,
  )
  board.processState = 'running'
  return { board, time }
}
