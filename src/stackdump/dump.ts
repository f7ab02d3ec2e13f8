/**
 * What a dump is: where one thread of a supervisor was at a moment, told by others without its help.
 *
 * It holds names, places, times and what the kernel says. It never holds values of variables, job data, environment or
 * command lines. A dump is taken in the sentinel (inspector-capture), read by people and shown in STUCK lines.
 *
 *   running   its JavaScript stack, several times; `native` calls that V8 can interrupt (a regex, Atomics.wait) included
 *   storm     microtasks or ticks that never end: the event loop does not turn, no function stays on the stack
 *   awaiting  it has a job, and no JavaScript on the stack: the job's steps say for what it waits
 *   native    in native code that V8 cannot interrupt: the kernel says what it does
 *   parked    idle, waiting for a job
 *   unseen    neither the inspector nor the kernel could look; the notes say why
 */
import { type Frame, frameText, topOf } from './frames.js'
import type { KernelView } from './kernel-view.js'

export type DumpClass = 'running' | 'storm' | 'awaiting' | 'native' | 'parked' | 'unseen'

/** Whose stack it is. `number` is the thread's 1-based place in its queue, `generation` which one of those that stood there. */
export type DumpSubject =
  | 'main'
  | { readonly queue: string; readonly number: number; readonly generation: number; readonly threadId: number }

export interface Sample {
  /** Milliseconds since the dump began. */
  readonly atMs: number
  /** The job's own code first. */
  readonly frames: readonly Frame[]
}

/** A step that a job of the thread has entered and not left. */
export interface DumpStep {
  readonly name: string
  readonly ageMs: number
  readonly enteredAt?: Frame
  /** Id of its job. */
  readonly job?: string
}

/** An async function that is suspended, and who awaits it: found on the heap by a deep dump. */
export interface SuspendedCall {
  /** The innermost first. */
  readonly frames: readonly Frame[]
}

/** What was seen of one thread, before it has a name. */
export interface DumpCore {
  readonly class: DumpClass
  readonly samples: readonly Sample[]
  /** The innermost last. */
  readonly steps: readonly DumpStep[]
  /** Kinds of what keeps its event loop alive, with counts: `Timeout`, `TCPSocketWrap ×2`. */
  readonly resources?: readonly string[]
  readonly suspended?: readonly SuspendedCall[]
  readonly kernel?: KernelView
  /** Milliseconds. */
  readonly tookMs: number
  /** What could not be seen and why, and what was cut. */
  readonly notes: readonly string[]
}

export interface Dump extends DumpCore {
  readonly id: string
  /** Wall clock, milliseconds. */
  readonly at: number
  readonly supervisor?: string
  readonly incarnation?: string
  readonly subject: DumpSubject
}

/** Largest dump that is kept, bytes of JSON. */
export const MAX_DUMP_BYTES = 64 * 1024
/** Frames that a stack keeps when a dump must be cut. */
const KEPT_FRAMES = 16
const KEPT_STEPS = 20
const KEPT_CALLS = 5

/** The place where the job is, for a STUCK line; undefined when nothing names one. */
export function topFrame(dump: DumpCore): string | undefined {
  const frame = topPlace(dump)
  return frame && frameText({ fn: frame.fn, ...placeOf(frame) })
}

function topPlace({ samples, suspended, steps }: DumpCore): Frame | undefined {
  const sampled = samples.map(({ frames }) => topOf(frames)).find((frame) => frame !== undefined && frame.internal !== true)
  if (sampled) return sampled
  return topOf(suspended?.[0]?.frames ?? []) ?? steps.at(-1)?.enteredAt ?? topOf(samples[0]?.frames ?? [])
}

/** File and line; a column helps nobody in a log line. */
function placeOf({ file, line }: Frame): Partial<Frame> {
  return { ...(file === undefined ? {} : { file }), ...(line === undefined ? {} : { line }) }
}

export interface DumpLabel {
  readonly id: string
  readonly at: number
  readonly supervisor?: string
  readonly incarnation?: string
  readonly subject: DumpSubject
}

/** Gives a dump its name and makes it fit. @param maxBytes of its JSON */
export function sealDump(core: DumpCore, label: DumpLabel, maxBytes = MAX_DUMP_BYTES): Dump {
  return fitted({ ...label, ...core }, maxBytes)
}

/** What is given up to make a dump fit, the least telling first. */
const CUTS: readonly { readonly said: string; readonly cut: (dump: Dump) => Dump }[] = [
  { said: 'all samples but the first', cut: (dump) => ({ ...dump, samples: dump.samples.slice(0, 1) }) },
  { said: `frames beyond the first ${KEPT_FRAMES}`, cut: shorterStacks },
  { said: `steps but the last ${KEPT_STEPS}`, cut: (dump) => ({ ...dump, steps: dump.steps.slice(-KEPT_STEPS) }) },
  { said: 'the kernel view', cut: ({ kernel: _, ...dump }) => dump },
  { said: 'everything but its class', cut: (dump) => ({ ...withoutSight(dump), samples: [], steps: [], notes: [] }) },
]

function shorterStacks(dump: Dump): Dump {
  const shorter = <T extends { readonly frames: readonly Frame[] }>(one: T): T => ({
    ...one,
    frames: one.frames.slice(0, KEPT_FRAMES),
  })
  const { suspended } = dump
  return {
    ...dump,
    samples: dump.samples.map(shorter),
    ...(suspended ? { suspended: suspended.slice(0, KEPT_CALLS).map(shorter) } : {}),
  }
}

function withoutSight({ suspended: _, resources: __, ...dump }: Dump): Dump {
  return dump
}

function fitted(dump: Dump, maxBytes: number): Dump {
  let fit = dump
  const left: string[] = []
  for (const { said, cut } of CUTS) {
    if (bytesOf(fit) <= maxBytes) return fit
    left.push(said)
    const smaller = cut(fit)
    fit = { ...smaller, notes: [...smaller.notes.filter((note) => !note.startsWith('cut ')), cutNote(maxBytes, left)] }
  }
  return fit
}

function cutNote(maxBytes: number, left: readonly string[]): string {
  return `cut to ${Math.round(maxBytes / 1024)} KiB; left out: ${left.join(', ')}`
}

function bytesOf(dump: Dump): number {
  return new TextEncoder().encode(JSON.stringify(dump)).length
}
