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
}

export interface SupervisorConfig {
  /** Undefined: the host name and the first free number. */
  readonly name: string | undefined
  readonly group: string | undefined
  readonly port: number
  readonly drainMs: number
}

export interface LogConfig {
  readonly level: 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent'
  readonly format: 'json' | 'pretty'
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

export interface QueueConfig {
  /** Absolute path of the handler module. */
  readonly handler: string | undefined
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
