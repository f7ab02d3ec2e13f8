/** The probe: one expression, evaluated on top of what the thread is doing, and the reading of its answer. Pure. */
import { jsonObjectIn } from '../kernel/json-object.js'
import type { DumpStep } from './dump.js'
import { type Frame, ownFirst, parseStack, topOf } from './frames.js'
import { LOOK_NAME } from './thread-look.js'

/** What one peek at a thread saw. */
export interface Peek {
  /** Milliseconds since the dump began. */
  readonly atMs: number
  /** The job's own code first. */
  readonly frames: readonly Frame[]
  /** Turns of its event loop so far; undefined before Node 20.18. */
  readonly turns?: number
  /** Milliseconds that its event loop has been idle so far. */
  readonly idleMs?: number
  readonly threadId?: number
  readonly tid?: number
  /** Jobs that it has, when it tells. */
  readonly jobs?: number
  readonly steps: readonly DumpStep[]
  readonly resources: readonly string[]
  /** Jobs whose handler can never settle. */
  readonly collected: readonly string[]
}

/** Deep enough for recursion to be seen as such. */
const MAX_FRAMES = 64
const MAX_TEXT = 160

/**
 * Names and places only. It takes the hooks that a job may have set on Error out of the way while it looks, since they
 * would run in the middle of the job's own code, and puts them back.
 */
export const PEEK_EXPRESSION = `(() => {
  const answer = {}
  const limit = Error.stackTraceLimit, prepare = Error.prepareStackTrace
  try {
    Error.stackTraceLimit = ${MAX_FRAMES}
    if (prepare !== undefined) Error.prepareStackTrace = undefined
    answer.stack = new Error('peek').stack
    const look = globalThis[Symbol.for('${LOOK_NAME}')]
    if (typeof look === 'function') {
      const { tid, jobs } = look()
      answer.tid = tid
      answer.jobs = jobs.map(({ id, steps, collected }) => ({
        id, collected, steps: steps.map(({ name, ageMs, entered }) => ({ name, ageMs, stack: entered && entered.stack })),
      }))
    }
  } catch {} finally {
    Error.stackTraceLimit = limit
    if (prepare !== undefined) Error.prepareStackTrace = prepare
  }
  try {
    const { idle } = performance.eventLoopUtilization()
    answer.idleMs = idle
    const metrics = performance.nodeTiming.uvMetricsInfo
    answer.turns = metrics && metrics.loopCount
  } catch {}
  try { answer.resources = process.getActiveResourcesInfo() } catch {}
  try { answer.threadId = process.getBuiltinModule('worker_threads').threadId } catch {}
  return JSON.stringify(answer)
})()`

/** @param text the probe's answer. @returns undefined when it is not one */
export function readPeek(text: unknown, atMs: number): Peek | undefined {
  const answer = typeof text === 'string' ? jsonObjectIn(text) : undefined
  if (!answer) return undefined
  const jobs = Array.isArray(answer['jobs']) ? answer['jobs'].filter(isRecord) : undefined
  return {
    atMs,
    frames: ownFirst(parseStack(textIn(answer, 'stack') ?? '')),
    steps: (jobs ?? []).flatMap(stepsIn),
    resources: counted(answer['resources']),
    collected: (jobs ?? []).filter((job) => job['collected'] === true).map((job) => String(job['id'])),
    ...(jobs ? { jobs: jobs.length } : {}),
    ...numbersIn(answer),
  }
}

function numbersIn(answer: Readonly<Record<string, unknown>>): Pick<Peek, 'turns' | 'idleMs' | 'threadId' | 'tid'> {
  const names = ['turns', 'idleMs', 'threadId', 'tid'] as const
  return Object.fromEntries(names.flatMap((name) => (typeof answer[name] === 'number' ? [[name, answer[name]]] : [])))
}

function stepsIn(job: Readonly<Record<string, unknown>>): DumpStep[] {
  const steps = Array.isArray(job['steps']) ? job['steps'].filter(isRecord) : []
  return steps.map((step) => {
    // A step is entered from the handler; the frame of ctx.step itself says nothing.
    const enteredAt = topOf(parseStack(textIn(step, 'stack') ?? ''))
    return {
      name: cut(textIn(step, 'name') ?? '?'),
      ageMs: Math.max(0, Number(step['ageMs']) || 0),
      ...(enteredAt ? { enteredAt } : {}),
      job: cut(String(job['id'])),
    }
  })
}

/** Kinds with their counts, without what every thread of ours has: the channel to its parent. */
function counted(resources: unknown): string[] {
  const counts = new Map<string, number>()
  for (const kind of Array.isArray(resources) ? resources : []) {
    if (typeof kind === 'string' && kind !== 'MessagePort') counts.set(kind, (counts.get(kind) ?? 0) + 1)
  }
  return [...counts].slice(0, 32).map(([kind, count]) => (count > 1 ? `${cut(kind)} ×${count}` : cut(kind)))
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function textIn(record: Readonly<Record<string, unknown>>, name: string): string | undefined {
  const value = record[name]
  return typeof value === 'string' ? value : undefined
}

function cut(text: string): string {
  return text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT - 1)}…` : text
}
