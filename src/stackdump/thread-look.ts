/**
 * What a thread tells of itself when it is peeked at: it puts one function where the probe finds it, and nothing runs
 * until a dump asks. Called on top of whatever the thread is doing, so it must only read, never await and never throw.
 */

/** How the probe finds it. Spelt in the probe's text too. */
export const LOOK_NAME = 'unstuck.look'

export interface ThreadLook {
  /** The kernel's id of the thread. */
  readonly tid?: number
  readonly jobs: readonly LookJob[]
}

export interface LookJob {
  readonly id: string
  /** The steps that are entered now, the innermost last. */
  readonly steps: readonly LookStep[]
  /** The promise of its handler was collected by the garbage collector: it can never settle. */
  readonly collected?: boolean
}

export interface LookStep {
  readonly name: string
  readonly ageMs: number
  /** What entryPoint gave where the step was entered. */
  readonly entered?: { readonly stack?: string | undefined }
}

/** Lets probes see what `look` says. Called once in each task thread, before its first job. */
export function installLook(look: () => ThreadLook): void {
  Object.defineProperty(globalThis, Symbol.for(LOOK_NAME), { value: look, configurable: true })
}

/** Enough to pass what lies between `ctx.step` and the job's own code. */
const ENTRY_FRAMES = 4

/**
 * Where a step is entered, for LookStep.entered: a stack that begins at the caller of `below`. About 2 µs on a quiet
 * machine; its text is made when somebody reads it.
 */
export function entryPoint(below: (...args: never[]) => unknown): { readonly stack?: string } {
  const { stackTraceLimit } = Error
  const entered = {}
  Error.stackTraceLimit = ENTRY_FRAMES
  Error.captureStackTrace(entered, below)
  Error.stackTraceLimit = stackTraceLimit
  return entered
}
