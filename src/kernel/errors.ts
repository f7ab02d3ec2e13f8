/**
 * Errors that a person can cause. Each names the thing, what is wrong with it and the fix, in one line;
 * the command line prints it without a stack trace and exits with 2.
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

export class UserError extends Error {
  override readonly name = 'UserError'
  readonly code: UserErrorCode

  /** @param message one line: `<thing>: <what is wrong>; <the fix>` */
  constructor(code: UserErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

/** Thrown by a handler that must never be retried by itself: only changed settings or a person free such a job. */
export class PermanentError extends Error {
  override readonly name = 'PermanentError'
  /** Survives the way out of a thread, where an error's class is lost. */
  readonly permanent = true
}

/** The text of anything that was thrown. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown)
}
