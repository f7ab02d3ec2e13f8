/** This process's stay in the fleet: one at a time, made by the first thing that is watched, with a real sentinel thread. */
import { randomBytes } from 'node:crypto'
import type { BeatBoard } from '../heartbeat/beat-board.js'
import { ownIdentity, type SentinelHostOptions, startNamedSentinel } from '../heartbeat/node-sentinel-host.js'
import type { SentinelData, SentinelIdentity } from '../heartbeat/sentinel-protocol.js'
import { messageOf, UserError } from '../kernel/errors.js'
import { Gatherer, withCount } from '../kernel/gatherer.js'
import type { Config } from '../platform/config.js'
import { configFromEnvironment } from '../platform/config-load.js'
import { systemClock } from '../platform/system-clock.js'
import { Membership, type MembershipPorts } from './membership.js'

/** What a process is called in the fleet and where it beats: the same for all that it has watched. */
export interface ProcessOptions {
  /** Its name in the fleet, as `supervisor.name`. Default: UNSTUCK_NAME, else the host's name and the first free number. */
  readonly name?: string
  /** Where it beats. Default: UNSTUCK_REDIS_URL or REDIS_URL, else what the worker uses. */
  readonly redisUrl?: string
  /** Told what goes wrong with the watching, never with the work. Default: `process.emitWarning`. */
  readonly onError?: (error: Error) => void
}

interface Current {
  readonly membership: Membership
  readonly name: string | undefined
  readonly redisUrl: string
}

let current: Current | undefined

/**
 * @param fallbackUrl where to beat when nothing says it
 * @throws UserError CONFIG_INVALID: no Redis is known, the environment is not valid, or another name or Redis is in force
 */
export function ownMembership(options: ProcessOptions, fallbackUrl: () => string): { membership: Membership; config: Config } {
  const config = configFromEnvironment(process.env, flagsOf(options))
  const redisUrl = config.redis.url ?? fallbackUrl()
  const { name } = config.supervisor
  if (current) {
    refuseOther('name', current.name, options.name)
    refuseOther('redisUrl', current.redisUrl, options.redisUrl)
    return { membership: current.membership, config }
  }
  const membership = new Membership(portsOf(config, redisUrl, options.onError ?? warn))
  current = { membership, name, redisUrl }
  return { membership, config }
}

function flagsOf({ name, redisUrl }: ProcessOptions): object {
  return { redis: { url: redisUrl }, supervisor: { name } }
}

function refuseOther(option: string, inForce: string | undefined, asked: string | undefined): void {
  if (asked === undefined || asked === inForce) return
  throw new UserError(
    'CONFIG_INVALID',
    `${option}: all that one process has watched shares one, and another is in force; give the same ${option} everywhere`,
  )
}

function warn(error: Error): void {
  process.emitWarning(error.message, { type: 'UnstuckWarning' })
}

function portsOf(config: Config, redisUrl: string, onError: (error: Error) => void): MembershipPorts {
  const errors = new Gatherer({
    monotonicMs: systemClock.monotonicMs,
    say: (message, count) => onError(new Error(`unstuck: ${withCount(message, count)}`)),
  })
  const incarnation = randomBytes(6).toString('hex')
  return {
    monotonicMs: systemClock.monotonicMs,
    start: (board, queues, signal) =>
      startNamedSentinel(config.supervisor.name, (name) =>
        hostOptions(dataOf({ config, redisUrl, incarnation, name, board, queues }), signal, (message) => errors.add(message)),
      ),
    everyTick: (turn) => {
      const timer = setInterval(turn, Math.max(MIN_TICK_MS, config.heartbeat.loopBlockedMs / TICKS_PER_THRESHOLD)).unref()
      return () => clearInterval(timer)
    },
    onError: (error) => errors.add(messageOf(error)),
    onEnd: () => {
      current = undefined
    },
  }
}

/** A turn of the main event loop is stamped so often within the time after which it counts as blocked. */
const TICKS_PER_THRESHOLD = 10
const MIN_TICK_MS = 20

function hostOptions(data: SentinelData, signal: AbortSignal, say: (message: string) => void): SentinelHostOptions {
  const { supervisor } = data
  return {
    data,
    unref: true,
    signal,
    onError: (message) => say(`sentinel: ${message}`),
    // Whoever only watches changes nothing in how jobs run.
    onTerminate: () => undefined,
    onOrder: (order) => say(`${order.kind} was ordered of ${supervisor}, which is watched from outside and takes no orders`),
    onReplaced: () => {
      say(`another process beats as ${supervisor} now: this one is not watched any more; give each process its own name`)
      void current?.membership.end()
    },
  }
}

interface DataParts {
  readonly config: Config
  readonly redisUrl: string
  readonly incarnation: string
  readonly name: string
  readonly board: BeatBoard
  readonly queues: SentinelIdentity['queues']
}

function dataOf({ config, redisUrl, incarnation, name, board, queues }: DataParts): SentinelData {
  return {
    ...ownIdentity(config, name, incarnation),
    queues,
    handle: board.handle,
    redisUrl,
    prefix: config.redis.prefix,
  }
}
