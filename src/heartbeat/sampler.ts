/**
 * Turns the board into a beat. Pure: it reads the board and nothing else, and judges nothing (beat.ts does).
 *
 * What it adds to the bare cells is the meaning of rest. A loop at rest is as old as its last end, but no older than
 * the moment since which it ought to be polling: its last change of state, the slot that was given back when all were
 * taken, the end of a rate limit. Otherwise an hour of rest on purpose would look like an hour of staleness.
 */
import type { Beat, JobProgress, LoopProgress, LoopState, QueueSlots } from './beat.js'
import type { BeatBoard } from './beat-board.js'
import type { JobCells, LoopCells } from './board-cells.js'
import { ALONE, LAUNCHING, type LoopLayout, ON_MAIN } from './board-layout.js'
import { awakeAge, type Pause } from './pauses.js'
import type { SentinelIdentity } from './sentinel-protocol.js'

export interface SampleMoment {
  readonly seq: number
  /** Of the process, milliseconds. */
  readonly uptimeMs: number
  /** Wall clock, only to show. */
  readonly wallNow: number
  /** The board's monotonic clock. Default 0; matters only with `pauses`. */
  readonly monotonicNow?: number
  /** When the whole process stood still. Default: never. */
  readonly pauses?: readonly Pause[]
}

/** What was read, for all parts of one beat. */
interface Sample {
  readonly board: BeatBoard
  readonly identity: SentinelIdentity
  readonly jobs: readonly JobCells[]
  readonly wallNow: number
  /** An age without the time during which the process stood still. */
  readonly age: (ageMs: number) => number
}

export function sampleBeat(board: BeatBoard, identity: SentinelIdentity, moment: SampleMoment): Beat {
  const { heartbeat } = identity
  const age: Sample['age'] = (ageMs) => awakeAge(ageMs, moment.pauses ?? [], moment.monotonicNow ?? 0)
  // Loops before jobs, jobs before freed slots: a slot given back in between must look young, not its loop old.
  const loops = board.layout.loops.map((_, index) => board.readLoop(index))
  const jobs = board.readJobs()
  const sample: Sample = { board, identity, jobs, wallNow: moment.wallNow, age }
  const state = board.processState
  return {
    v: 1,
    supervisor: identity.supervisor,
    incarnation: identity.incarnation,
    seq: moment.seq,
    ...(identity.group === undefined ? {} : { group: identity.group }),
    host: identity.host,
    pid: identity.pid,
    version: identity.version,
    state,
    uptimeMs: Math.round(moment.uptimeMs),
    intervalMs: heartbeat.intervalMs,
    timeoutMs: heartbeat.timeoutMs,
    main: { ageMs: age(board.mainAgeMs), thresholdMs: heartbeat.loopBlockedMs },
    threadBlockedMs: heartbeat.threadBlockedMs,
    ...(identity.dumps ? { dumps: identity.dumps } : {}),
    loops: loops.flatMap((cells, index) =>
      board.layout.loops[index]?.loop === '' ? [] : [loopProgress(sample, index, cells)],
    ),
    threads: board.readThreads().map(({ queue, number, generation, jobs: carried, tickAgeMs }) => ({
      queue: queueName(board, queue),
      number,
      generation,
      jobs: carried,
      tickAgeMs: age(tickAgeMs),
    })),
    jobs: jobs.map((cells) => jobProgress(sample, cells)),
    queues: oneOfEachName(
      identity.queues.flatMap((queue, index) =>
        queue.name === '' ? [] : [queueSlots(board, index, queue, loops, busyIn(jobs, index), state === 'running')],
      ),
    ),
  }
}

/** Several workers of one process may serve a queue: outside it counts as one with all their slots. */
function oneOfEachName(queues: readonly QueueSlots[]): QueueSlots[] {
  const merged = new Map<string, QueueSlots>()
  for (const one of queues) {
    const other = merged.get(one.queue)
    if (!other) merged.set(one.queue, one)
    else {
      const eligible = other.eligible || one.eligible
      merged.set(one.queue, { ...other, slots: other.slots + one.slots, busy: other.busy + one.busy, eligible })
    }
  }
  return [...merged.values()]
}

/** The place of a loop's queue; -1 when it has none. */
function queueOf({ layout }: BeatBoard, loop: LoopLayout | undefined): number {
  if (loop?.queue === undefined) return -1
  return loop.queueIndex ?? layout.queues.findIndex(({ name }) => name === loop.queue)
}

function queueName(board: BeatBoard, index: number): string {
  return board.layout.queues[index]?.name ?? ''
}

function busyIn(jobs: readonly JobCells[], queue: number): number {
  return jobs.reduce((count, job) => (job.queue === queue ? count + 1 : count), 0)
}

function loopProgress(sample: Sample, index: number, cells: LoopCells): LoopProgress {
  const { board, identity, jobs, age, wallNow } = sample
  const layout = board.layout.loops[index]
  const queue = queueOf(board, layout)
  const slots = identity.queues[queue]?.slots ?? Number.POSITIVE_INFINITY
  const inFlight = cells.inFlight > 0
  const rest = inFlight ? undefined : restOf(cells, queue < 0 ? Number.POSITIVE_INFINITY : board.slotFreedAgeMs(queue))
  return {
    loop: layout?.loop ?? 'reconcile',
    ...(layout?.queue === undefined ? {} : { queue: layout.queue }),
    state: cells.state === 'polling' && busyIn(jobs, queue) >= slots ? 'full' : cells.state,
    cycles: cells.cycles,
    skipped: cells.skipped,
    inFlight,
    phase: cells.phase,
    ageMs: age(rest ? rest.ageMs : cells.sinceAgeMs),
    limitMs: rest ? rest.limitMs : cells.limitMs,
    thresholdMs: layout?.thresholdMs ?? identity.loops.pollStaleThresholdMs,
    graceMs: layout?.graceMs ?? identity.loops.startGraceMs,
    ...(cells.cycles === 0 ? {} : { startedAt: wallNow - cells.sinceAgeMs }),
    ...(cells.endedAgeMs === undefined ? {} : { endedAt: wallNow - cells.endedAgeMs }),
    ...lockProgress(sample, queue),
  }
}

/** For how long a loop with nothing in flight ought to have polled, and what of it a rate limit excuses. */
function restOf(cells: LoopCells, slotFreedAgeMs: number): { ageMs: number; limitMs: number } {
  const ageMs = Math.min(cells.endedAgeMs ?? Number.POSITIVE_INFINITY, cells.stateAgeMs, slotFreedAgeMs)
  return { ageMs, limitMs: cells.state === 'limited' ? Math.max(0, ageMs + cells.limitedForMs) : 0 }
}

function lockProgress({ identity, jobs, age }: Sample, queue: number): Partial<LoopProgress> {
  const locks = jobs.filter((job) => job.queue === queue).map((job) => job.lockAgeMs)
  const lockDurationMs = identity.queues[queue]?.lockDurationMs
  if (locks.length === 0 || lockDurationMs === undefined) return {}
  return { lockAgeMs: age(Math.max(...locks)), lockDurationMs }
}

function jobProgress({ board, age }: Sample, cells: JobCells): JobProgress {
  const launching = cells.thread === LAUNCHING
  return {
    queue: queueName(board, cells.queue),
    id: cells.id,
    attempt: cells.attempt,
    fence: cells.fence,
    thread: board.threadNumber(cells.thread),
    ...(launching || cells.thread === ALONE ? { alone: true as const } : {}),
    ...(cells.thread === ON_MAIN ? { onMain: true as const } : {}),
    ...(launching ? { launching } : {}),
    runningMs: launching ? age(cells.runningMs) : cells.runningMs,
    silentMs: age(cells.silentMs),
    ...(cells.step === undefined ? {} : { step: cells.step, stepMs: cells.stepMs }),
  }
}

/** States in which a fetch loop takes jobs, or would if it could. */
const TAKING: readonly LoopState[] = ['polling', 'full', 'limited']

function queueSlots(
  board: BeatBoard,
  index: number,
  queue: SentinelIdentity['queues'][number],
  loops: readonly LoopCells[],
  busy: number,
  running: boolean,
): QueueSlots {
  const fetch = loops.find((_, at) => queueOf(board, board.layout.loops[at]) === index)
  return {
    queue: queue.name,
    slots: queue.slots,
    busy,
    eligible: running && fetch !== undefined && TAKING.includes(fetch.state),
    silentAfterMs: queue.silentAfterMs,
    ...(queue.launchTimeoutMs === undefined ? {} : { launchTimeoutMs: queue.launchTimeoutMs }),
    onStuck: queue.onStuck,
  }
}
