/** What passes between the supervisor's main thread and a task thread; much of it also goes to a process of its own. */
import type { BoardHandle, JobCellRef } from '../heartbeat/beat-board.js'
import type { ThreadError } from './outcome.js'

/** Given to a task thread when it starts. */
export interface ThreadSetup {
  readonly board: BoardHandle
  /** Index of its queue in the board's layout. */
  readonly queue: number
  readonly handler: string
  /** How often the thread stamps a turn of its event loop, milliseconds. */
  readonly tickMs: number
}

/** A job for a thread, with its cell on the board: flat, since every nested object costs a copy more. */
export interface ThreadTask extends JobCellRef {
  readonly id: string
  readonly name: string
  readonly queue: string
  readonly data: unknown
  readonly group: string | undefined
  readonly attempt: number
  readonly fence: number
  /** Runs in a process of its own. */
  readonly alone?: boolean
  /** Of the attempt's span, when somebody collects spans. */
  readonly traceparent?: string
}

/** A result travels as JSON, which is what BullMQ stores: what cannot be stored fails in the thread, with a reason. */
export type ThreadReply =
  | { readonly ok: true; readonly json: string | undefined }
  | { readonly ok: false; readonly error: ThreadError }

/** A line that a handler logged. */
export interface ThreadLogLine {
  readonly unstuck: 'log'
  readonly level: 'info' | 'warn' | 'error'
  readonly message: string
  readonly queue: string
  readonly jobId: string
  readonly attempt: number
}
