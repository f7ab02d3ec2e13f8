/** What a handler sees of its job. */
export interface JobView<Data = unknown> {
  readonly id: string
  readonly name: string
  readonly queue: string
  readonly data: Data
  /** The tenant or site label, when the job has one. */
  readonly group: string | undefined
  /** 1 for the first try: BullMQ's `attemptsMade` + 1. */
  readonly attempt: number
}

export interface JobLog {
  info(message: string): void
  warn(message: string): void
  error(message: string): void
}

/** What a handler may do while it runs. */
export interface JobContext {
  /** Aborts on cancel, on a lost lock and at shutdown. */
  readonly signal: AbortSignal
  /** Grows with each claim of this job (BullMQ's `attemptsStarted`); a write that bears an older one is refused. */
  readonly fence: number
  readonly log: JobLog
  /** W3C Trace Context of this attempt's span, with `telemetry.tracing`: the parent of spans that a handler makes itself. */
  readonly traceparent?: string
  /**
   * Says that the job is alive. Without a heartbeat or a step for `silentAfterMs` a running job is stuck.
   * @param progress a token that changes when there is real progress; the same token again is no sign of life
   */
  heartbeat(progress?: string | number): void
  /** Names what is awaited, so that a STUCK line can say where the job hangs and since when. */
  step<T>(name: string, run: () => T | Promise<T>): Promise<T>
}

/** A handler module's default export. */
export type Handler<Data = unknown, Result = unknown> = (job: JobView<Data>, ctx: JobContext) => Result | Promise<Result>
