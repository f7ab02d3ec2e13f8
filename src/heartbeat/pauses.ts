/**
 * Time that the whole process was not given: stopped by a signal, frozen, or starved. Nobody in it could make progress
 * meanwhile, so no age may grow by it. Pure.
 */
export interface Pause {
  /** Monotonic milliseconds. */
  readonly from: number
  readonly to: number
}

/** More than the busiest host keeps a runnable thread waiting, well below every threshold, milliseconds. */
const PAUSE_MS = 1000

/** Older pauses matter only to ages that reach back behind all of these. */
const KEPT = 32

/**
 * What the one who wakes learns. It counts from its last sign of being awake, so rather a little too much than too little.
 * @param awakeAt when it was last seen awake
 * @param dueAt when it had asked to be woken
 */
export function withPause(pauses: readonly Pause[], awakeAt: number, dueAt: number, now: number): readonly Pause[] {
  if (now - dueAt <= PAUSE_MS) return pauses
  return [...pauses, { from: awakeAt, to: now }].slice(-KEPT)
}

/** The part of an age during which the process was running. */
export function awakeAge(ageMs: number, pauses: readonly Pause[], now: number): number {
  let age = ageMs
  for (const { from, to } of pauses) age -= Math.max(0, to - Math.max(from, now - ageMs))
  return Math.max(0, Math.round(age))
}
