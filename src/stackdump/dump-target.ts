/** Threads as people name them: `main`, or `QUEUE:N` with the thread's place in its queue, from 1. Pure. */
import { UserError } from '../kernel/errors.js'
import type { DumpTarget } from './dump-request.js'

const MAX_SHOWN = 160

/**
 * @param thread undefined means all
 * @throws UserError INPUT_INVALID
 */
export function targetsNamed(thread: string | undefined): 'all' | readonly DumpTarget[] {
  if (thread === undefined) return 'all'
  if (thread === 'main') return [thread]
  const [, queue, number] = /^([A-Za-z0-9._-]{1,100}):([1-9]\d{0,5})$/.exec(String(thread)) ?? []
  if (queue !== undefined && number !== undefined) return [{ queue, thread: Number(number) }]
  const shown = JSON.stringify(String(thread).slice(0, MAX_SHOWN))
  throw new UserError('INPUT_INVALID', `thread ${shown}: names none; write main, or QUEUE:N with N from 1 (mail:2)`)
}

interface Place {
  readonly queue: string
  readonly number: number
}

/**
 * @param threads that there are, beside main
 * @throws UserError THREAD_UNKNOWN naming those that there are
 */
export function checkTargets(supervisor: string, targets: 'all' | readonly DumpTarget[], threads: readonly Place[]): void {
  if (targets === 'all') return
  for (const target of targets) {
    if (target === 'main' || threads.some(({ queue, number }) => queue === target.queue && number === target.thread)) continue
    throw threadUnknown(supervisor, targets, `it has ${['main', ...placesText(threads)].join(', ')}`)
  }
}

/** @param fix what there is instead, or how to see that */
export function threadUnknown(supervisor: string, targets: 'all' | readonly DumpTarget[], fix: string): UserError {
  const named = targets === 'all' ? 'all' : targets.map(targetText).join(', ')
  return new UserError('THREAD_UNKNOWN', `supervisor:${supervisor}: it has no thread ${named}; ${fix}`)
}

function targetText(target: DumpTarget): string {
  return target === 'main' ? target : `${target.queue}:${target.thread}`
}

/** `mail:1` for one thread of a queue, `mail:1 to mail:8` for more. */
function placesText(threads: readonly Place[]): string[] {
  return [...new Set(threads.map(({ queue }) => queue))].sort().map((queue) => {
    const numbers = threads.filter((thread) => thread.queue === queue).map(({ number }) => number)
    const [first, last] = [Math.min(...numbers), Math.max(...numbers)]
    return first === last ? `${queue}:${first}` : `${queue}:${first} to ${queue}:${last}`
  })
}
