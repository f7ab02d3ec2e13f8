import type { Clock } from '../kernel/clock.js'

// performance.now() is several times cheaper than hrtime; the two differ by a constant within one thread.
const offsetMs = Number(process.hrtime.bigint()) / 1e6 - performance.now()

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonicMs: () => performance.now() + offsetMs,
}
