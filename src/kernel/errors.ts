/**
 * Errors that a person can cause. Each names the thing, what is wrong with it and the fix, in one line;
 * the command line prints it without a stack trace and exits with 2, or with 1 when it is a refusal.
 */
export type UserErrorCode =
  | 'CONFIG_INVALID'
  | 'CONFIG_NOT_FOUND'
  | 'HANDLER_NOT_FOUND'
  | 'INPUT_INVALID'
  | 'NAME_TAKEN'
  | 'PORT_IN_USE'
  | 'QUEUE_UNKNOWN'
  | 'REDIS_MISSING'
  | 'REDIS_UNREACHABLE'
  | 'REDIS_UNSUITABLE'
  | 'SENTINEL_UNREACHABLE'
  | 'SESSION_MISSING'
  | 'SESSION_UNREACHABLE'
  | RefusalCode

/** What was asked is well put, and the job, supervisor, thread or dump is not in a state for it: exit code 1. */
export type RefusalCode =
  | 'DUMP_REFUSED'
  | 'DUMP_UNKNOWN'
  | 'JOB_CANCELLED'
  | 'JOB_COMPLETED'
  | 'JOB_FAILED'
  | 'JOB_FOREIGN'
  | 'JOB_FRESH'
  | 'JOB_RUNNING'
  | 'JOB_SCHEDULED'
  | 'JOB_TAKEN'
  | 'JOB_UNKNOWN'
  | 'JOB_WAITS_FOR_CHILDREN'
  | 'SUPERVISOR_GONE'
  | 'SUPERVISOR_UNKNOWN'
  | 'THREAD_UNKNOWN'

export function isRefusal(code: UserErrorCode): code is RefusalCode {
  return /^(DUMP|JOB|SUPERVISOR|THREAD)_/.test(code)
}

export class UserError extends Error {
  override readonly name: string = 'UserError'
  readonly code: UserErrorCode

  /** @param message one line: `<thing>: <what is wrong>; <the fix>` */
  constructor(code: UserErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

/** A session's job is not its own any more: it was taken back, cancelled, or another session has it. */
export class FenceLostError extends UserError {
  override readonly name = 'FenceLostError'

  constructor(message: string, options?: ErrorOptions) {
    super('JOB_TAKEN', message, options)
  }
}

/** Thrown by a handler that must never be retried by itself: only changed settings or a person free such a job. */
export class PermanentError extends Error {
  override readonly name = 'PermanentError'
  /** Survives the way out of a thread, where an error's class is lost. */
  readonly permanent = true
}

/** Thrown by a handler that was told to come later, by an API's rate limit for one: its job goes back uncharged, and waits. */
export class RateLimitedError extends Error {
  override readonly name = 'RateLimitedError'
  /** How long the job waits at least, milliseconds. */
  readonly retryAfterMs: number

  /** @param retryAfterMs milliseconds */
  constructor(retryAfterMs: number, message = `rate limited for ${retryAfterMs} ms`) {
    super(message)
    this.retryAfterMs = retryAfterMs
  }
}

/** Whether it is an error of Node or the system with this code: `ENOENT`. */
export function hasCode(thrown: unknown, code: string): boolean {
  return thrown instanceof Error && 'code' in thrown && thrown.code === code
}

/** The text of anything that was thrown. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown)
}
