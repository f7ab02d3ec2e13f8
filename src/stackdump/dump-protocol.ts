/** What goes through a sentinel's own socket: one line of JSON each way, one request a connection. Pure. */
import { parseJsonObject } from '../kernel/json-object.js'
import type { Dump } from './dump.js'
import { type DumpTarget, targetsIn } from './dump-request.js'

export interface DumpAsk {
  readonly targets: 'all' | readonly DumpTarget[]
  /** Also look for suspended async functions on the heap. */
  readonly deep: boolean
}

export type DumpReply = { readonly ok: true; readonly dumps: readonly Dump[] } | { readonly ok: false; readonly error: string }

/** Longest request, bytes. */
export const MAX_ASK = 65_536

const VERSION = 1

export function askText({ targets, deep }: DumpAsk): string {
  return `${JSON.stringify({ v: VERSION, do: 'dump', targets, ...(deep ? { deep } : {}) })}\n`
}

export function replyText(reply: DumpReply): string {
  return `${JSON.stringify(reply)}\n`
}

/** @throws Error that says what is wrong with it */
export function parseAsk(line: string): DumpAsk {
  const { v, do: what, targets, deep = false } = parseJsonObject(line)
  if (v !== VERSION) throw new Error(`v must be ${VERSION}: the command speaks another version than the supervisor`)
  if (what !== 'dump') throw new Error('do must be "dump"')
  const wanted = targetsIn(targets)
  if (!wanted) throw new Error('targets must be "all", or a list of "main" and {queue, thread}')
  if (typeof deep !== 'boolean') throw new Error('deep must be true or false')
  return { targets: wanted, deep }
}

/** @throws Error when it is no answer */
export function parseReply(line: string): DumpReply {
  const { ok, error, dumps } = parseJsonObject(line)
  if (ok === false && typeof error === 'string') return { ok, error }
  if (ok === true && Array.isArray(dumps) && dumps.every(isDump)) return { ok, dumps }
  throw new Error('it is no answer')
}

/** As far as showing it relies on. */
function isDump(value: unknown): value is Dump {
  if (typeof value !== 'object' || value === null) return false
  const { id, class: kind, subject, samples, steps, notes } = value as Partial<Record<string, unknown>>
  return (
    typeof id === 'string' && typeof kind === 'string' && isSubject(subject) && [samples, steps, notes].every(Array.isArray)
  )
}

function isSubject(value: unknown): boolean {
  return value === 'main' || (typeof value === 'object' && value !== null)
}
