/**
 * Loops that are not BullMQ's: a poll loop of somebody's own, and anything else that must keep moving. Their progress is
 * written on the board where it happens, so a loop that hangs, or whose timer is lost, is found from outside.
 */
import { boardLoopProbe } from '../heartbeat/loop-probe.js'
import { UserError } from '../kernel/errors.js'
import type { Place } from './membership.js'
import { ownMembership, type ProcessOptions } from './node-membership.js'

export interface LoopOptions extends ProcessOptions {
  /** How often it is meant to come round, milliseconds. */
  readonly intervalMs: number
  /** In flight, or at rest, for longer: stuck. Milliseconds. Default: max(60 000, 10 × intervalMs). At least two intervals. */
  readonly staleAfterMs?: number
}

export interface PulseOptions extends ProcessOptions {
  /** Without a beat for longer: stuck. Milliseconds. */
  readonly staleAfterMs: number
}

export interface Watched {
  /** Settles when this process beats; rejects when it cannot, which `onError` is told too. Need not be awaited. */
  readonly ready: Promise<void>
  /** It rests on purpose: nothing is stale until `resume`. */
  pause(): void
  resume(): void
  /** Ends the watching; when it was the last, this process says goodbye. May be called twice. */
  unwatch(): Promise<void>
}

export interface WatchedLoop extends Watched {
  /**
   * One cycle. While one is in flight another is skipped and counted, never begun: no other guard is needed.
   * @param run names what it does now through `phase`; what it throws is passed on, and is no wedge
   * @returns its result, or undefined when the cycle was skipped
   */
  cycle<T>(run: (phase: (name: string) => void) => T | Promise<T>): Promise<T | undefined>
}

export interface Pulse extends Watched {
  /** It moves. */
  beat(): void
}

/**
 * Watches a poll loop of your own.
 * @param name how STUCK lines call it: letters, digits, `.`, `_` and `-`, 64 at most
 * @throws UserError CONFIG_INVALID
 */
export function watchLoop(name: string, options: LoopOptions): WatchedLoop {
  const intervalMs = positive('intervalMs', options.intervalMs)
  const staleAfterMs = positive('staleAfterMs', options.staleAfterMs ?? Math.max(60_000, 10 * intervalMs))
  if (staleAfterMs < 2 * intervalMs) {
    throw new UserError(
      'CONFIG_INVALID',
      `staleAfterMs: ${staleAfterMs} is below two intervals of ${intervalMs} ms; a loop that is late once would be stuck`,
    )
  }
  const place = placeFor(name, staleAfterMs, options)
  const probe = boardLoopProbe(place.writer, place.board)
  let inFlight = false
  const phase = (what: string) => {
    const shown = String(what).slice(0, MAX_PHASE)
    place.knowPhase(shown)
    probe.phase(shown)
  }
  return {
    ...watched(place),
    async cycle(run) {
      if (inFlight) {
        probe.skipped()
        return undefined
      }
      inFlight = true
      probe.started()
      try {
        return await run(phase)
      } finally {
        probe.ended()
        inFlight = false
      }
    },
  }
}

/**
 * Watches anything that must keep moving: a consumer, a cron, a stream.
 * @param name how STUCK lines call it: letters, digits, `.`, `_` and `-`, 64 at most
 * @throws UserError CONFIG_INVALID
 */
export function pulse(name: string, options: PulseOptions): Pulse {
  const place = placeFor(name, positive('staleAfterMs', options.staleAfterMs), options)
  return {
    ...watched(place),
    beat() {
      place.writer.started()
      place.writer.ended()
    },
  }
}

const MAX_PHASE = 96
const OWN_NAME = /^[A-Za-z0-9._-]{1,64}$/
/** Names of loops that are BullMQ's and ours. */
const TAKEN = /^(fetch|reconcile)(-\d+)?$/

function placeFor(name: string, thresholdMs: number, options: ProcessOptions): Place {
  if (!OWN_NAME.test(name) || TAKEN.test(name)) {
    throw new UserError(
      'CONFIG_INVALID',
      `loop ${JSON.stringify(name)}: is no name for a loop; use letters, digits, ".", "_" and "-", 64 at most, and neither fetch nor reconcile`,
    )
  }
  const { membership, config } = ownMembership(options, () => {
    throw new UserError('CONFIG_INVALID', `loop "${name}": no Redis is known; set UNSTUCK_REDIS_URL, or the option redisUrl`)
  })
  const graceMs = Math.max(thresholdMs, config.loops.startGraceMs)
  const place = membership.watch({ loop: { loop: name, thresholdMs, graceMs } })
  place.writer.state('polling')
  // Who does not await it is told through onError.
  place.ready.catch(() => undefined)
  return place
}

function watched(place: Place): Watched {
  return {
    ready: place.ready,
    pause: () => place.writer.state('paused'),
    resume: () => place.writer.state('polling'),
    unwatch: () => place.leave(),
  }
}

function positive(option: string, value: number): number {
  if (Number.isFinite(value) && value > 0 && value < 2 ** 31) return Math.round(value)
  throw new UserError('CONFIG_INVALID', `${option}: ${String(value)} is no time; give milliseconds above 0`)
}
