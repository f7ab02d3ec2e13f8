/**
 * `watchWorker`: gives a BullMQ Worker of somebody else's the heartbeat, the loops and the dumps, without moving its code.
 *
 * It looks on: every call is passed through as it is, with its result and its error, and nothing in how jobs are taken, run
 * or ended changes. What it writes goes to the board; the sentinel tells the rest of the world.
 */
import type { LoopState } from '../heartbeat/beat.js'
import type { Phase } from '../heartbeat/beat-board.js'
import { UserError } from '../kernel/errors.js'
import { internalsOf, type WatchableWorker, type WorkerInternals } from './bullmq-internals.js'
import { connectionUrl } from './connection-url.js'
import { FetchTally } from './fetch-tally.js'
import type { Place } from './membership.js'
import { ownMembership, type ProcessOptions } from './node-membership.js'
import { type GiveBack, givenBack, shadow } from './shadow.js'
import { WatchedJobs } from './watched-jobs.js'

export interface WatchOptions extends ProcessOptions {
  /** A running job without heartbeat, step or progress for so long is stuck, milliseconds. Default 300 000. */
  readonly silentAfterMs?: number
  /** Thresholds of its fetch loop, milliseconds. Default: the config's, 60 000 and 30 000. */
  readonly loops?: { readonly pollStaleThresholdMs?: number; readonly startGraceMs?: number }
}

export interface Watch {
  /** Settles when this process beats; rejects when it cannot, which `onError` is told too. Need not be awaited. */
  readonly ready: Promise<void>
  /** Gives everything back; when it was the last, this process says goodbye. `worker.close()` does it too. May be called twice. */
  unwatch(): Promise<void>
}

const SILENT_AFTER_MS = 300_000
/** BullMQ's own default. */
const LOCK_DURATION_MS = 30_000
/** BullMQ's longest block. */
const MAX_BLOCK_MS = 10_000

const watched = new WeakMap<WatchableWorker, Watch>()

/**
 * Watches a Worker of BullMQ 5 or 6. Call it right after `new Worker(…)`, so that nothing happens unseen. Watching one
 * twice gives the same watch.
 * @throws UserError CONFIG_INVALID: no Worker, a contradiction, or no Redis that an address can name
 */
export function watchWorker(worker: WatchableWorker, options: WatchOptions = {}): Watch {
  const known = watched.get(worker)
  if (known) return known
  const watch = begin(worker, options)
  watched.set(worker, watch)
  return watch
}

function begin(given: WatchableWorker, options: WatchOptions): Watch {
  const { worker, store } = internalsOf(given)
  const { membership, config } = ownMembership(options, () => connectionUrl(worker.opts.connection))
  const thresholdMs = options.loops?.pollStaleThresholdMs ?? config.loops.pollStaleThresholdMs
  const graceMs = options.loops?.startGraceMs ?? config.loops.startGraceMs
  const silentAfterMs = options.silentAfterMs ?? SILENT_AFTER_MS
  for (const [name, value] of Object.entries({ pollStaleThresholdMs: thresholdMs, startGraceMs: graceMs, silentAfterMs })) {
    if (!(value > 0)) throw new UserError('CONFIG_INVALID', `watchWorker: ${name} is ${value}; give milliseconds above 0`)
  }
  let onTick: () => void = () => undefined
  const place = membership.watch({
    loop: { loop: 'fetch', queue: worker.name, thresholdMs, graceMs },
    queue: {
      name: worker.name,
      slots: worker.concurrency,
      silentAfterMs,
      lockDurationMs: worker.opts.skipLockRenewal ? Number.MAX_SAFE_INTEGER : (worker.opts.lockDuration ?? LOCK_DURATION_MS),
      onStuck: 'report',
    },
    onTick: () => onTick(),
  })
  // Who does not await it is told through onError.
  place.ready.catch(() => undefined)
  const tally = new FetchTally(place.writer, () => place.board.stamp())
  const jobs = new WatchedJobs(worker, place)
  const giveBack = givenBack([...seeCalls(worker, store, tally), ...jobs.see(store)])
  const states = new WorkerStates(worker, place, tally, jobs)
  onTick = () => states.look()
  states.look()
  let ended: Promise<void> | undefined
  const unwatch = (): Promise<void> => {
    ended ??= end()
    return ended
  }
  const end = async (): Promise<void> => {
    watched.delete(given)
    giveBack()
    giveBackClose()
    jobs.forget()
    await place.leave()
  }
  // An application that exits once its workers are closed would otherwise leave before the goodbye is said.
  const giveBackClose = shadow(worker, 'close', (close) => async (...args) => {
    try {
      return await close(...args)
    } finally {
      await unwatch()
    }
  })
  return { ready: place.ready, unwatch }
}

/** Calls that may bring the next job, by BullMQ's names. */
const FETCHES: readonly Phase[] = ['moveToActive', 'moveToFinished', 'moveToDelayed', 'retryJob']

function seeCalls(worker: WorkerInternals, store: object, tally: FetchTally): GiveBack[] {
  const { waiting } = worker
  // One that went out before we looked; its outcome is BullMQ's business.
  if (waiting) void tally.block(MAX_BLOCK_MS, () => waiting).catch(() => undefined)
  return [
    shadow(worker, 'waitForJob', (wait) => (...args) => {
      const limitMs = Math.max(1, Math.min(MAX_BLOCK_MS, worker.getBlockTimeout(Number(args.at(-1))) * 1000))
      return tally.block(limitMs, () => wait(...args) as Promise<unknown>)
    }),
    ...FETCHES.map((phase) =>
      shadow(
        store,
        phase,
        (call) =>
          (...args) =>
            tally.sent(phase, call(...args)),
      ),
    ),
  ]
}

/** What the worker is meant to do, read off it at each tick: it says none of it in time, or not at all. */
class WorkerStates {
  readonly #worker: WorkerInternals
  readonly #place: Place
  readonly #tally: FetchTally
  readonly #jobs: WatchedJobs
  #state: LoopState = 'starting'
  #limitUntil = 0
  #lingers = false

  constructor(worker: WorkerInternals, place: Place, tally: FetchTally, jobs: WatchedJobs) {
    this.#worker = worker
    this.#place = place
    this.#tally = tally
    this.#jobs = jobs
  }

  look(): void {
    const { closing, paused, running, concurrency, limitUntil } = this.#worker
    this.#place.setSlots(concurrency)
    this.#jobs.look()
    if (closing) this.#closing()
    else if (paused) this.#enter('paused')
    else if (limitUntil > Date.now()) this.#limited(limitUntil)
    // A main loop that has ended by itself stays `polling`: it ought to.
    else if (running || this.#state === 'limited') this.#enter('polling')
    this.#tally.tick()
  }

  #enter(state: LoopState): void {
    if (this.#state === state) return
    this.#state = state
    this.#place.writer.state(state)
  }

  #limited(until: number): void {
    if (until !== this.#limitUntil) this.#place.writer.limitedFor(until - Date.now())
    this.#limitUntil = until
    this.#enter('limited')
  }

  /** A close waits for jobs as long as they take; what it does after the last is to be over soon. */
  #closing(): void {
    this.#enter('draining')
    if (this.#lingers || this.#jobs.size > 0) return
    this.#lingers = true
    this.#tally.hang('close')
  }
}
