/** One call for whoever wants dumps now: asks a supervisor, waits for its answer and reads what it kept. */
import { randomUUID } from 'node:crypto'
import type { Redis } from 'ioredis'
import type { SeenBeat } from '../heartbeat/seen-beat.js'
import { UserError } from '../kernel/errors.js'
import type { FleetKeys } from '../platform/redis-keys.js'
import type { Dump } from './dump.js'
import type { DumpTarget } from './dump-request.js'
import { checkTargets, threadUnknown } from './dump-target.js'
import { askForDump } from './redis-dump-requests.js'
import { awaitAnswer, readDump } from './redis-dumps.js'

/** A sentinel that lives answers within a tenth of a second, half a second for native code. */
const ANSWER_MS = 5000
/** Heap snapshots take seconds each. */
const DEEP_ANSWER_MS = 60_000

export interface DumpOptions {
  /** Only this one: `main`, or `QUEUE:N` with its place in the queue, from 1. Default: all. */
  readonly thread?: string
  /** Also finds suspended async functions; takes seconds, in which the thread stands still. */
  readonly deep?: boolean
}

export interface DumpCall {
  readonly targets: 'all' | readonly DumpTarget[]
  readonly deep: boolean
}

/** How long a sentinel is waited for, milliseconds. */
export function dumpLimitMs({ deep }: Pick<DumpCall, 'deep'>): number {
  return deep ? DEEP_ANSWER_MS : ANSWER_MS
}

/**
 * @param seen of a supervisor that lives
 * @throws UserError THREAD_UNKNOWN, DUMP_REFUSED, SENTINEL_UNREACHABLE when no answer comes
 */
export async function callForDumps(
  redis: Redis,
  keys: FleetKeys,
  seen: SeenBeat & { readonly incarnation: string },
  call: DumpCall,
): Promise<Dump[]> {
  const { supervisor, beat } = seen
  const { targets, deep } = call
  checkSupport(seen)
  if (beat) checkTargets(supervisor, targets, beat.threads)
  const request = randomUUID()
  await askForDump(redis, keys, seen, { kind: 'dump', request, targets, ...(deep ? { deep } : {}) })
  const answer = await awaitAnswer(redis, keys, request, dumpLimitMs(call))
  if (!answer) throw unanswered(seen, dumpLimitMs(call))
  // Its thread may have gone since the beat.
  if (answer.dumps.length === 0 && targets !== 'all') throw threadUnknown(supervisor, targets, 'look at its threads again')
  if (answer.refused !== undefined)
    throw new UserError('DUMP_REFUSED', `supervisor:${supervisor}: it gave no dump (${answer.refused}); try again later`)
  const dumps = await Promise.all(answer.dumps.map(({ id }) => readDump(redis, keys, id)))
  return dumps.filter((dump) => dump !== undefined)
}

function checkSupport({ supervisor, beat }: SeenBeat): void {
  if (!beat || beat.dumps === true) return
  const fix = `it is of version ${beat.version}; start it again with this one`
  throw new UserError('DUMP_REFUSED', `supervisor:${supervisor}: it takes no stack dumps; ${fix}`)
}

function unanswered({ supervisor, beat }: SeenBeat, limitMs: number): UserError {
  const where = beat ? `on its host, ${beat.host}` : 'on its host'
  return new UserError(
    'SENTINEL_UNREACHABLE',
    `supervisor:${supervisor}: no dump within ${limitMs / 1000} s; run \`unstuck dump --local ${supervisor}\` ${where}`,
  )
}
