/** Who asks a supervisor for dumps, of what, and what comes back. Pure. */
import type { DumpClass } from './dump.js'

/** The main thread, or a thread by its queue and its 1-based place there. */
export type DumpTarget = 'main' | { readonly queue: string; readonly thread: number }

/** What a sentinel is asked for. */
export interface DumpOrder {
  readonly kind: 'dump'
  /** Under this name the answer is found. */
  readonly request: string
  readonly targets: 'all' | readonly DumpTarget[]
  /** Also look for suspended async functions on the heap: tenths of a second to seconds. */
  readonly deep?: true
  /** Asked for by a watchdog, at the beginning of this incident. */
  readonly incidentId?: string
}

export interface DumpAnswer {
  readonly request: string
  readonly dumps: readonly { readonly id: string; readonly class: DumpClass; readonly top?: string }[]
  /** Why there are none. */
  readonly refused?: string
}

const MAX_TARGETS = 1000

/** @returns undefined when it is not the order for a dump */
export function dumpOrderIn(fields: Readonly<Record<string, unknown>>): DumpOrder | undefined {
  const { kind, request, targets, deep, incidentId } = fields
  if (kind !== 'dump' || typeof request !== 'string' || !/^[A-Za-z0-9-]{1,80}$/.test(request)) return undefined
  const wanted = targetsIn(targets)
  if (!wanted) return undefined
  return {
    kind,
    request,
    targets: wanted,
    ...(deep === true ? { deep } : {}),
    ...(typeof incidentId === 'string' ? { incidentId } : {}),
  }
}

/** @param text an order as it travels: with the incarnation that it is meant for */
export function readDumpOrder(text: string, incarnation: string): DumpOrder | undefined {
  let fields: unknown
  try {
    fields = JSON.parse(text)
  } catch {
    return undefined
  }
  if (typeof fields !== 'object' || fields === null || !('incarnation' in fields)) return undefined
  return fields.incarnation === incarnation ? dumpOrderIn({ ...fields }) : undefined
}

export function targetsIn(value: unknown): 'all' | readonly DumpTarget[] | undefined {
  if (value === 'all') return value
  if (!Array.isArray(value) || value.length === 0 || value.length > MAX_TARGETS) return undefined
  const targets = value.map(targetIn)
  return targets.every((target) => target !== undefined) ? targets : undefined
}

function targetIn(value: unknown): DumpTarget | undefined {
  if (value === 'main') return value
  if (typeof value !== 'object' || value === null) return undefined
  const { queue, thread } = value as Readonly<Record<string, unknown>>
  if (typeof queue !== 'string' || typeof thread !== 'number' || !Number.isSafeInteger(thread)) return undefined
  return { queue, thread }
}
