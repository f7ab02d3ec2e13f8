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
  /** Hash: queue → last measurement of the queue by the reconcile loop (JSON). */
  readonly facts: string
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
    facts: `${prefix}:facts`,
    beat: (supervisor) => `${prefix}:beat:${supervisor}`,
    workers: (queue) => `${prefix}:workers:${queue}`,
    free: (queue) => `${prefix}:free:${queue}`,
    flapping: (subject) => `${prefix}:flapping:${subject}`,
  }
}

export interface QueueKeys {
  readonly base: string
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
  job(id: string): string
  lock(id: string): string
}

/** @param bullPrefix `redis.bullPrefix` */
export function queueKeys(bullPrefix: string, queue: string): QueueKeys {
  const base = `${bullPrefix}:${queue}`
  return {
    base,
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
    job: (id) => `${base}:${id}`,
    lock: (id) => `${base}:${id}:lock`,
  }
}
