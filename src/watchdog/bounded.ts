/** Bounds for what others name: a fleet that makes up names without end must not fill the memory of whoever scrapes. Pure. */

/** Series of one metric by supervisor, or by supervisor and loop: a fleet of 10 000 with two loops each. */
export const MOST_SERIES = 20_000
/** Queues with series; each has a dozen. */
export const MOST_QUEUES = 1000

/**
 * @param weight what weighs most is kept; asked for only when something must go
 * @returns at most `most` of them, and how many were left out
 */
export function bounded<T>(
  all: readonly T[],
  most: number,
  weight: (one: T) => number,
): { kept: readonly T[]; dropped: number } {
  if (all.length <= most) return { kept: all, dropped: 0 }
  const weighed = all.map((one) => ({ one, weight: weight(one) })).sort((a, b) => b.weight - a.weight)
  return { kept: weighed.slice(0, most).map(({ one }) => one), dropped: all.length - most }
}
