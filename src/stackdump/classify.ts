/** From what was seen of a thread to the one word for it. Pure. */
import type { DumpClass } from './dump.js'
import { type Frame, ownFrames } from './frames.js'
import type { KernelView } from './kernel-view.js'
import type { Peek } from './peek.js'

export interface Evidence {
  /** Whether the inspector could be asked at all: it is there, allowed, and main passed the question on. */
  readonly asked: boolean
  readonly peeks: readonly Peek[]
  /** It has a job, as the board or the thread itself says. */
  readonly busy: boolean
  readonly kernel?: KernelView
}

export function classify(evidence: Evidence): DumpClass {
  const { asked, peeks, busy, kernel } = evidence
  if (peeks.length === 0) return asked ? 'native' : byKernel(kernel, busy)
  if (looksLikeStorm(evidence)) return 'storm'
  if (peeks.some(({ frames }) => ownFrames(frames).length > 0)) return 'running'
  if (busy) return peeks.every(({ frames }) => hasFrames(frames)) ? 'running' : 'awaiting'
  return 'parked'
}

/**
 * No function stays on the stack, and yet the event loop has not turned between the first look and the last. An idle
 * loop turns at least once for each look, since the question itself wakes it.
 */
export function looksLikeStorm({ peeks, kernel }: Evidence): boolean {
  const [first] = peeks
  const last = peeks.at(-1)
  if (!first || !last || first === last) return false
  if (peeks.every(({ frames }) => hasFrames(frames)) || hasTurned(first, last)) return false
  return kernel === undefined || kernel.state === 'on-cpu' || (kernel.cpuShare ?? 1) > STORM_CPU_SHARE
}

/** A storm uses all of a processor, or its share of a crowded one; a thread that waits uses next to none. */
const STORM_CPU_SHARE = 0.2

/** Whether the event loop has come round between two looks. */
export function hasTurned(first: Peek, last: Peek): boolean {
  if (first.turns !== undefined && last.turns !== undefined) return last.turns > first.turns
  return (last.idleMs ?? 0) > (first.idleMs ?? 0)
}

/** Node's own pump of ticks and microtasks is on the stack of a storm as well as of nothing at all. */
function hasFrames(frames: readonly Frame[]): boolean {
  return frames.some(({ fn }) => !/processTicksAndRejections|runMicrotasks/.test(fn))
}

/** Without a JavaScript stack: only what the kernel tells. */
function byKernel(kernel: KernelView | undefined, busy: boolean): DumpClass {
  switch (kernel?.state) {
    case undefined:
    case 'gone':
      return 'unseen'
    case 'on-cpu':
      return 'running'
    case 'event-loop':
      return busy ? 'awaiting' : 'parked'
    case 'futex':
      return busy ? 'native' : 'parked'
    default:
      return 'native'
  }
}
