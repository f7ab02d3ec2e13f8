/**
 * What is in force. Parsed once, cross-checked, frozen; every part of the program gets only the slice that it needs.
 * Durations are milliseconds. `config-schema.ts` holds the rules and defaults, `config-load.ts` the sources.
 */
export interface Config {
  readonly redis: RedisConfig
  readonly queues: Readonly<Record<string, QueueConfig>>
  readonly loops: LoopsConfig
  readonly heartbeat: HeartbeatConfig
  readonly watchdog: WatchdogConfig
  readonly http: HttpConfig
  readonly supervisor: SupervisorConfig
  readonly log: LogConfig
  readonly telemetry: TelemetryConfig
}

export interface RedisConfig {
  /** Undefined: `up` starts an embedded one, every other command refuses to run. */
  readonly url: string | undefined
  readonly prefix: string
  readonly bullPrefix: string
}

export interface LoopsConfig {
  readonly pollIntervalMs: number
  readonly pollStaleThresholdMs: number
  readonly startGraceMs: number
}

export interface HeartbeatConfig {
  readonly intervalMs: number
  readonly timeoutMs: number
  readonly loopBlockedMs: number
  readonly threadBlockedMs: number
}

export interface WatchdogConfig {
  readonly intervalMs: number
  readonly goneAfterMs: number
  readonly redisUnreachableAfterMs: number
  readonly dumpOnStuck: boolean
  readonly deadmanUrl: string | undefined
}

export interface HttpConfig {
  readonly host: string
  readonly port: number
  readonly token: string | undefined
  /** Looks and changes nothing. Never without `token`. */
  readonly readToken: string | undefined
  /** `/metrics` of the watchdog without a token. */
  readonly openMetrics: boolean
}

export interface SupervisorConfig {
  /** Undefined: the host name and the first free number. */
  readonly name: string | undefined
  readonly group: string | undefined
  /** Where its own endpoints listen: they tell no secret and take no order, so any address needs no token. */
  readonly host: string
  readonly port: number
  readonly drainMs: number
  /** Absolute path. The folders of sessions lie in it. */
  readonly runtimeDir: string
}

export interface LogConfig {
  readonly level: 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent'
  readonly format: 'json' | 'pretty'
}

export interface TelemetryConfig {
  /** Spans of jobs, attempts and sessions, through the OpenTelemetry SDK that the process has registered. */
  readonly tracing: boolean
}

export interface AttemptsConfig {
  readonly max: number
  readonly backoffMs: readonly number[]
  /** Share of a wait that is random: 0.2 means ± 20 %. */
  readonly jitter: number
  readonly cooldownMs: number
  readonly maxResets: number
  readonly slowRetryMs: number
  readonly provenAfterMs: number
}

/** How a queue's jobs run as child processes. */
export interface SessionConfig {
  /** Absolute path, or a name without a slash that is looked for on PATH. Never given to a shell. */
  readonly command: string
  /** One that is exactly `{name}` is filled from the job. */
  readonly args: readonly string[]
  /** `true` passes the supervisor's own value on. Values are secret. */
  readonly env: Readonly<Record<string, string | true>>
  /** Without `git`: a fresh folder. `git` is the absolute path of a repository. */
  readonly workspace: { readonly git: string | undefined; readonly base: string | undefined }
  /** Whether folder, log and workspace stay after the end. */
  readonly keep: 'never' | 'failed' | 'always'
  readonly tmux: boolean
  /** Between TERM and KILL. */
  readonly graceMs: number
  readonly logBytes: number
  readonly permanentExitCodes: readonly number[]
}

/** A queue has a handler or a session, never both. */
export interface QueueConfig {
  /** Absolute path of the handler module. */
  readonly handler: string | undefined
  readonly session: SessionConfig | undefined
  readonly threads: number
  readonly jobsPerThread: number
  readonly concurrency: number
  readonly attempts: AttemptsConfig
  readonly release: { readonly perSecond: number }
  readonly breaker: { readonly failures: number; readonly probeMs: number }
  readonly silentAfterMs: number
  readonly launchTimeoutMs: number
  readonly orphans: 'kill' | 'adopt'
  readonly notMovingAfterMs: number
  readonly noWorkerAfterMs: number
  readonly lockDurationMs: number
  readonly onStuck: 'report' | 'terminate'
}

/** How many jobs of the queue one supervisor runs at a time. */
export function slotsOf(queue: Pick<QueueConfig, 'session' | 'concurrency' | 'threads' | 'jobsPerThread'>): number {
  return queue.session ? queue.concurrency : queue.threads * queue.jobsPerThread
}
