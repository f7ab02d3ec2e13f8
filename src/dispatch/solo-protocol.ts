/** What passes between the supervisor's main thread and a process that runs one job alone. */
import type { AbortReason } from '../heartbeat/beat-board.js'
import type { ThreadLogLine, ThreadReply, ThreadTask } from './thread-protocol.js'

export type ToSolo =
  | {
      readonly unstuck: 'task'
      readonly task: ThreadTask
      readonly handler: string
      /** How often what was held back is told, milliseconds. */
      readonly tickMs: number
    }
  | { readonly unstuck: 'abort'; readonly reason: AbortReason }

/** A job's signs of life. Times travel as ages: a process may keep its own. */
export type SoloNews =
  | { readonly unstuck: 'alive' }
  /** Without a name: no step is entered any more. */
  | { readonly unstuck: 'step'; readonly name: string | undefined; readonly ageMs: number }

export type FromSolo =
  /** It runs, holds no job code yet, and wants its task. */
  | { readonly unstuck: 'ready' }
  | SoloNews
  | ThreadLogLine
  /** Its last words: nobody caught this error, and the process ends of it. */
  | { readonly unstuck: 'crash'; readonly message: string }
  | { readonly unstuck: 'reply'; readonly reply: ThreadReply }
