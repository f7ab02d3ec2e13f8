/**
 * Two clocks, named by purpose. `now` is for people and for the store (wall clock, may jump);
 * `monotonicMs` is for comparing (never jumps, means nothing outside this host).
 * No wall clock of one machine is ever compared with another's.
 */
export interface Clock {
  /** Wall clock, milliseconds since the Unix epoch. To show and to store, never to compare. */
  now(): number
  /** Milliseconds of the host's monotonic clock; shared by all threads and processes of one host. */
  monotonicMs(): number
}
