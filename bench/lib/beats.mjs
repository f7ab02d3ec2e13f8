/** Beats of supervisors that do not exist: healthy, of a real one's size, one queue and four running jobs. */
export const FLEET_QUEUE = 'fleet'
export const TIMEOUT_MS = 5000
const INTERVAL_MS = 1000

export function healthyBeat({ supervisor, incarnation, seq, uptimeMs, queue = FLEET_QUEUE, slots = 4, busy = 4 }) {
  const numbers = Array.from({ length: busy }, (_, index) => index + 1)
  return {
    v: 1,
    supervisor,
    incarnation,
    seq,
    host: 'bench-host-0000',
    pid: 12_345,
    version: '0.1.0',
    state: 'running',
    uptimeMs,
    intervalMs: INTERVAL_MS,
    timeoutMs: TIMEOUT_MS,
    main: { ageMs: 20, thresholdMs: 5000 },
    threadBlockedMs: 10_000,
    loops: [
      loop({ loop: 'fetch', queue, state: busy < slots ? 'polling' : 'full', lockAgeMs: 5000, lockDurationMs: 30_000 }),
      loop({ loop: 'reconcile', inFlight: false, phase: 'measure', limitMs: 5000 }),
    ],
    threads: numbers.map((number) => ({ queue, number, generation: 1, jobs: 1, tickAgeMs: 120 })),
    jobs: numbers.map((number) => ({
      queue,
      id: `${seq}-${number}`,
      attempt: 1,
      fence: 1,
      thread: number,
      runningMs: 4200,
      silentMs: 300,
      step: 'compress',
      stepMs: 1200,
    })),
    queues: [{ queue, slots, busy, eligible: true, silentAfterMs: 300_000, onStuck: 'report' }],
  }
}

export function loop(changes) {
  return {
    state: 'polling',
    cycles: 10_000,
    skipped: 0,
    inFlight: false,
    phase: 'moveToFinished',
    ageMs: 400,
    limitMs: 0,
    thresholdMs: 60_000,
    graceMs: 30_000,
    ...changes,
  }
}
