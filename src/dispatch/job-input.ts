/** What a caller may enqueue, checked before anything is added: a bad job among many adds none of them. */
import { UserError } from '../kernel/errors.js'

export interface JobInput {
  /** Default: the queue's name. */
  readonly name?: string
  /** Anything that JSON can hold. Default: {}. */
  readonly data?: unknown
  /** Own id; a job with an id that exists is not added again. No colon, not a whole number, at most 160 bytes. */
  readonly jobId?: string
  readonly group?: string
  /** 1 (first) to 2 097 152; without one a job goes before all that have one. */
  readonly priority?: number
  /** Milliseconds to wait before the job may run. */
  readonly delay?: number
  /** Default: the queue's attempts.max. */
  readonly attempts?: number
}

/** BullMQ's limit. */
const MAX_PRIORITY = 2_097_152
const MAX_ID_BYTES = 160

/** BullMQ's own keys of a queue: a job with such an id would be written over one of them. */
const BULLMQ_KEYS = new Set(
  'active wait waiting-children paused id delayed prioritized stalled-check completed failed stalled repeat limiter meta events pc marker de'.split(
    ' ',
  ),
)

/**
 * @param where how the job is named in an error: `job 3`, `jobs.ndjson line 17`
 * @returns the data as it will be stored
 * @throws UserError INPUT_INVALID
 */
export function checkJobInput(input: JobInput, where: string): JobInput {
  checkId(input.jobId, where)
  checkNumber(input.priority, where, 'priority', 1, MAX_PRIORITY)
  checkNumber(input.delay, where, 'delay', 0, Number.MAX_SAFE_INTEGER)
  checkNumber(input.attempts, where, 'attempts', 1, 1_000_000)
  checkText(input.name, where, 'name')
  checkText(input.group, where, 'group')
  return { ...input, data: storable(input.data === undefined ? {} : input.data, where) }
}

function checkId(id: unknown, where: string): void {
  if (id === undefined) return
  if (typeof id !== 'string' || id === '') throw refused(where, 'jobId must be a non-empty text; leave it out to get one')
  if (/^-?\d+$/.test(id))
    throw refused(where, `jobId "${id}" is a whole number, which BullMQ keeps for its own ids; put a letter before it`)
  // BullMQ takes ids for parts of keys; its own schedulers' ids start with "repeat:".
  if (id.includes(':')) throw refused(where, `jobId "${shown(id)}" has a colon, which separates parts of keys; use "-" or "_"`)
  if (/\p{Cc}/u.test(id)) throw refused(where, `jobId "${shown(id)}" has a control character; leave it out`)
  if (BULLMQ_KEYS.has(id)) throw refused(where, `jobId "${id}" is a key of BullMQ's own; put something before it`)
  if (Buffer.byteLength(id) > MAX_ID_BYTES) throw refused(where, `jobId is longer than ${MAX_ID_BYTES} bytes; use a hash of it`)
}

/** What BullMQ and we keep beside a job, under its key. */
const BESIDE_A_JOB = /:(lock|logs|dependencies|processed|failed|unsuccessful)$/

/**
 * May a job have this id, whoever added it? BullMQ allows more than `checkJobInput`: whole numbers, and colons in what
 * its schedulers make. What is no id would be read as one of the queue's own keys.
 */
export function couldBeJobId(id: string): boolean {
  return id !== '' && !BULLMQ_KEYS.has(id) && !id.startsWith('unstuck:') && !BESIDE_A_JOB.test(id)
}

function checkNumber(value: unknown, where: string, name: string, min: number, max: number): void {
  if (value === undefined) return
  if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max) {
    throw refused(where, `${name} must be a whole number from ${min} to ${max}`)
  }
}

function checkText(value: unknown, where: string, name: string): void {
  if (value === undefined) return
  if (typeof value !== 'string' || value === '') throw refused(where, `${name} must be a non-empty text`)
}

function storable(data: unknown, where: string): unknown {
  let json: string | undefined
  try {
    json = JSON.stringify(data)
  } catch (error) {
    const why = error instanceof RangeError ? 'it nests too deeply, or is too large' : 'a circle or a BigInt in it'
    throw refused(where, `data cannot be stored as JSON (${why}); pass plain data`)
  }
  if (json === undefined) throw refused(where, `data cannot be stored as JSON (a ${typeof data}); pass plain data`)
  return data
}

function refused(where: string, what: string): UserError {
  return new UserError('INPUT_INVALID', `${where}: ${what}`)
}

/** Unprintable bytes of a bad id must not reach a terminal. */
function shown(text: string): string {
  return JSON.stringify(text.slice(0, 60)).slice(1, -1)
}
