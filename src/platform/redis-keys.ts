/**
 * Every Redis key and channel that unstuck uses, for writers and readers alike. Nothing else spells one out.
 *
 * The fleet's keys live under one hash tag (`{unstuck}`), so that one Lua script may touch several of them in a
 * Cluster. What belongs to one queue lives under BullMQ's own prefix of that queue, so that it shares its slot.
 */
export interface FleetKeys {
  /** Tells a store that lost its memory: missing after it was seen means flushed or replaced. */
  readonly epoch: string
  /** The highest number given to an incarnation that registered. */
  readonly generation: string
  /** Sorted set of supervisors by the Redis time (ms) at which somebody must look at them. */
  readonly due: string
  /** Set of all queue names that were ever served or added to. */
  readonly queues: string
  /** Hash subject → open incident (JSON). */
  readonly open: string
  /** Counter: the sequence number of transitions. */
  readonly sequence: string
  /** Stream of STUCK and RESUMED transitions and other events. */
  readonly transitions: string
  /** Sorted set of transitions decided but not yet written as a line, by the Redis time of the next try. */
  readonly unsaid: string
  /** Sorted set of watchdogs by the Redis time of their last cycle. */
  readonly watchdogs: string
  /** Channel: a supervisor's name, when something there fell late or moved again. */
  readonly hints: string
  /** Hash of one supervisor's last beat. */
  beat(supervisor: string): string
  /** Sorted set of the supervisors that take jobs of a queue, by the Redis time at which their silence means death. */
  workers(queue: string): string
  /** The same, only those with a free slot. */
  free(queue: string): string
  /** Flapping guard of a subject: transitions in the window. */
  flapping(subject: string): string
  /** List of orders (JSON) that a supervisor takes with its next beat. */
  orders(supervisor: string): string
  /**
   * Hash: `died:GROUP` counts the deaths in a group, `back:GROUP` is the last of them after which one was seen again,
   * `registered:GROUP` the Redis time (ms) of the group's last registration.
   */
  readonly restarts: string
  /** Channel: an order lies there for this supervisor, and is in a hurry. */
  wake(supervisor: string): string
  /** One stack dump (JSON), kept for a day. */
  dump(id: string): string
  /** Sorted set of a supervisor's dumps by the Redis time (ms) at which they were kept. */
  dumps(supervisor: string): string
  /** What came of a request for dumps (JSON). */
  answer(request: string): string
}

/** @param prefix `redis.prefix`; keep its braces in a Cluster. */
export function fleetKeys(prefix: string): FleetKeys {
  return {
    epoch: `${prefix}:epoch`,
    generation: `${prefix}:generation`,
    due: `${prefix}:due`,
    queues: `${prefix}:queues`,
    open: `${prefix}:open`,
    sequence: `${prefix}:sequence`,
    transitions: `${prefix}:transitions`,
    unsaid: `${prefix}:unsaid`,
    watchdogs: `${prefix}:watchdogs`,
    hints: `${prefix}:hints`,
    restarts: `${prefix}:restarts`,
    beat: (supervisor) => `${prefix}:beat:${supervisor}`,
    workers: (queue) => `${prefix}:workers:${queue}`,
    free: (queue) => `${prefix}:free:${queue}`,
    orders: (supervisor) => `${prefix}:orders:${supervisor}`,
    flapping: (subject) => `${prefix}:flapping:${subject}`,
    wake: (supervisor) => `${prefix}:wake:${supervisor}`,
    dump: (id) => `${prefix}:dump:${id}`,
    dumps: (supervisor) => `${prefix}:dumps:${supervisor}`,
    answer: (request) => `${prefix}:answer:${request}`,
  }
}

export interface QueueKeys {
  readonly base: string
  /** The base with its colon: what scripts put before a name. */
  readonly root: string
  readonly wait: string
  readonly active: string
  readonly delayed: string
  readonly prioritized: string
  readonly completed: string
  readonly failed: string
  readonly paused: string
  readonly meta: string
  readonly marker: string
  readonly events: string
  readonly stalled: string
  readonly limiter: string
  readonly repeat: string
  /** Who reconciles this queue now. */
  readonly lease: string
  /** Sorted set of exhausted jobs by the Redis time (ms) at which their cooldown is over. */
  readonly exhausted: string
  /** Sorted set of jobs that failed for good by the Redis time (ms) of their failure. */
  readonly permanent: string
  /** Hash: group → its breaker (JSON), while it is not closed. */
  readonly breakers: string
  /** List of bulk resets (JSON) that the reconcile loop still has to work off. */
  readonly campaigns: string
  /** Stream: who reset, cancelled, paused or resumed what. */
  readonly audit: string
  /** The next free moment (Redis ms) at which a job may be put back, and when that was written. */
  readonly release: string
  /** Fingerprint of the settings that all failed jobs were compared with. */
  readonly settings: string
  /** Hash: group → number of the last restart whose resets were ordered. */
  readonly restarts: string
  /** Hash: scheduler → how many supervisors or threads its jobs lost. */
  readonly losses: string
  /** Set of the different jobs of a group that failed since its last success. */
  failures(group: string): string
  /** Sorted set of the jobs of a group that wait in `delayed` for its breaker, by the Redis time they were put there. */
  parked(group: string): string
  /** Hash: job → the session (JSON) that a host runs of it, or must still clean up after. */
  sessions(host: string): string
  job(id: string): string
  lock(id: string): string
}

/** @param bullPrefix `redis.bullPrefix` */
export function queueKeys(bullPrefix: string, queue: string): QueueKeys {
  const base = `${bullPrefix}:${queue}`
  return {
    base,
    root: `${base}:`,
    wait: `${base}:wait`,
    active: `${base}:active`,
    delayed: `${base}:delayed`,
    prioritized: `${base}:prioritized`,
    completed: `${base}:completed`,
    failed: `${base}:failed`,
    paused: `${base}:paused`,
    meta: `${base}:meta`,
    marker: `${base}:marker`,
    events: `${base}:events`,
    stalled: `${base}:stalled`,
    limiter: `${base}:limiter`,
    repeat: `${base}:repeat`,
    lease: `${base}:unstuck:lease`,
    exhausted: `${base}:unstuck:exhausted`,
    permanent: `${base}:unstuck:permanent`,
    breakers: `${base}:unstuck:breakers`,
    campaigns: `${base}:unstuck:campaigns`,
    audit: `${base}:unstuck:audit`,
    release: `${base}:unstuck:release`,
    settings: `${base}:unstuck:settings`,
    restarts: `${base}:unstuck:restarts`,
    losses: `${base}:unstuck:losses`,
    failures: (group) => `${base}:unstuck:failures:${group}`,
    parked: (group) => `${base}:unstuck:parked:${group}`,
    sessions: (host) => `${base}:unstuck:sessions:${host}`,
    job: (id) => `${base}:${id}`,
    lock: (id) => `${base}:${id}:lock`,
  }
}
