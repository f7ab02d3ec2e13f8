/**
 * What a session and its supervisor say to each other: one line of JSON each way, one request a connection. A session
 * needs no Redis and no config; who it is, it knows from its environment.
 */
import { parseJsonObject } from '../kernel/json-object.js'

export interface SocketRequest {
  /** A sign of life, or: is the job still mine? */
  readonly do: 'beat' | 'fence'
  readonly queue: string
  readonly job: string
  readonly fence: number
  /** Of a beat: changes with real progress; the same again is no sign of life. */
  readonly progress?: string
}

export type SocketAnswer =
  | { readonly ok: true }
  | {
      readonly ok: false
      readonly error: string
      /** Nobody said that the job is another's: it could not be found out, or was not asked well. */
      readonly unsure?: true
    }

/** Longest request and answer, bytes. */
export const MAX_LINE = 65_536
/** A connection is over after so long, milliseconds. */
export const CONNECTION_MS = 5000
/** Characters of a progress token. */
export const MAX_PROGRESS = 200

const VERSION = 1

export function requestLine(request: SocketRequest): string {
  return `${JSON.stringify({ v: VERSION, ...request })}\n`
}

export function answerLine(answer: SocketAnswer): string {
  return `${JSON.stringify(answer)}\n`
}

/** @throws Error that says what is wrong with it */
export function parseRequest(line: string): SocketRequest {
  const { v, do: what, queue, job, fence, progress } = parseJsonObject(line)
  if (v !== VERSION) throw new Error(`v must be ${VERSION}: the session speaks another version than its supervisor`)
  if (what !== 'beat' && what !== 'fence') throw new Error('do must be "beat" or "fence"')
  if (typeof queue !== 'string' || typeof job !== 'string') throw new Error('queue and job must be texts')
  if (typeof fence !== 'number' || !Number.isSafeInteger(fence)) throw new Error('fence must be a whole number')
  if (progress === undefined) return { do: what, queue, job, fence }
  if (typeof progress !== 'string' || progress.length > MAX_PROGRESS) {
    throw new Error(`progress must be a text of at most ${MAX_PROGRESS} characters`)
  }
  return { do: what, queue, job, fence, progress }
}

/** @throws Error when it is no answer */
export function parseAnswer(line: string): SocketAnswer {
  const { ok, error, unsure } = parseJsonObject(line)
  if (ok === true) return { ok }
  if (ok !== false || typeof error !== 'string') throw new Error('it is no answer')
  return { ok, error, ...(unsure === true ? { unsure } : {}) }
}
