/**
 * Every config key: its type, range, default and environment variable, in one table. What a value means stands in
 * docs/reference.md, which a test holds to this file. Rules between keys are in `config-parse.ts`.
 */
import { availableParallelism } from 'node:os'
import { z } from 'zod'
import type { AttemptsConfig, Config, QueueConfig, SessionConfig } from './config.js'

interface FieldInfo {
  /** The variables that set it, the first that is set wins. */
  readonly env?: readonly string[]
  /** Never printed. Each of its variables has a `_FILE` variant that names a file with the value. */
  readonly secret?: boolean
  /** How the default reads where it depends on something else. */
  readonly shown?: string
}

const fields = z.registry<FieldInfo & { readonly kind: FieldKind }>()

type FieldKind = 'number' | 'boolean' | 'text' | 'list' | 'object'

function field<T extends z.ZodType>(kind: FieldKind, schema: T, info: FieldInfo = {}): T {
  fields.add(schema, { kind, ...info })
  return schema
}

/** The longest time that a timer of Node can be set to. */
const MAX_MS = 2_147_483_647

const whole = (min: number, max: number) => z.number().int().min(min).max(max)
const count = (min: number, max: number, preset: number, info?: FieldInfo) =>
  field('number', whole(min, max).default(preset), info)
const durationMs = (min: number, preset: number, info?: FieldInfo, max = MAX_MS) => count(min, max, preset, info)
const choice = <const T extends readonly [string, ...string[]]>(options: T, preset: T[number], info?: FieldInfo) =>
  field('text', z.enum(options).default(preset), info)

const label = z.string().regex(/^[A-Za-z0-9._-]{1,64}$/, 'must be 1 to 64 letters, digits, ".", "_" or "-"')
const keyPrefix = z.string().regex(/^[^\s]{1,64}$/, 'must be 1 to 64 characters without blanks')
const redisUrl = z.string().regex(/^rediss?:\/\/\S+$/, 'must be an address like redis://host:6379 (rediss:// for TLS)')
const token = z.string().regex(/^[\x21-\x7e]+$/, 'must be printable characters without blanks')
const hostName = z.string().regex(/^\S+$/, 'must be a host name or address')
const port = (preset: number, env: string) => count(0, 65_535, preset, { env: [env] })
const pathText = z.string().regex(/^[^\p{Cc}]+$/u, 'must be a path without control characters')
const argument = z.string().refine((text) => !text.includes('\0'), 'must not hold a NUL')
/** What git would read as an option, or cannot be given to it. */
const gitName = z.string().regex(/^[^-\p{Cc}][^\p{Cc}]*$/u, 'must not be empty, begin with "-" or hold control characters')

const redis = z.strictObject({
  url: field('text', redisUrl.optional(), {
    env: ['UNSTUCK_REDIS_URL', 'REDIS_URL'],
    secret: true,
    shown: 'embedded for `up`, else required',
  }),
  prefix: field('text', keyPrefix.default('{unstuck}'), { env: ['UNSTUCK_REDIS_PREFIX'] }),
  bullPrefix: field('text', keyPrefix.default('bull'), { env: ['UNSTUCK_BULL_PREFIX'] }),
})

const attempts = z.strictObject({
  max: count(1, 1000, 8),
  backoffMs: field('list', z.array(whole(0, MAX_MS)).min(1).max(100).default([30_000, 60_000, 120_000, 300_000, 600_000])),
  jitter: field('number', z.number().min(0).max(1).default(0.2)),
  cooldownMs: durationMs(0, 1_800_000),
  maxResets: count(0, 1_000_000, 5),
  slowRetryMs: durationMs(1000, 21_600_000),
  provenAfterMs: durationMs(0, 60_000),
})

const envValue = z.union([argument, z.literal(true)], 'must be a text without NUL, or true to pass on what the supervisor has')

/** Refuses names here and not by the record's key type, so that each is named by itself. */
const sessionEnv = z.record(z.string(), envValue).superRefine((env, context) => {
  for (const name of Object.keys(env)) {
    const problem = envNameProblem(name)
    if (problem) context.addIssue({ code: 'custom', path: [name], message: problem })
  }
})

function envNameProblem(name: string): string | undefined {
  if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) return 'is no name of a variable; use letters, digits and "_"'
  return name.startsWith('UNSTUCK_') ? 'names that begin with UNSTUCK_ are set by the supervisor; choose another' : undefined
}

const session = z.strictObject({
  command: field('text', pathText, { shown: 'required' }),
  args: field('list', z.array(argument).max(1000).default([])),
  env: field('object', sessionEnv.default({}), { secret: true }),
  workspace: z
    .strictObject({
      git: field('text', pathText.optional(), { shown: 'none: a fresh folder' }),
      base: field('text', gitName.optional(), { shown: 'what the repository has checked out' }),
    })
    .prefault({}),
  keep: choice(['never', 'failed', 'always'], 'never'),
  tmux: field('boolean', z.boolean().default(false)),
  graceMs: durationMs(0, 10_000),
  logBytes: count(4096, 1_073_741_824, 1_048_576),
  permanentExitCodes: field('list', z.array(whole(1, 255)).max(255).default([])),
})

const queue = z.strictObject({
  handler: field('text', z.union([z.string().min(1), z.instanceof(URL).transform(String)], 'must be a text').optional(), {
    shown: 'required, or a session',
  }),
  session: session.optional(),
  threads: field('number', whole(1, 1024).prefault(availableParallelism), { env: ['UNSTUCK_THREADS'], shown: 'cores' }),
  jobsPerThread: count(1, 10_000, 1, { env: ['UNSTUCK_JOBS_PER_THREAD'] }),
  concurrency: count(1, 10_000, 4, { env: ['UNSTUCK_CONCURRENCY'] }),
  attempts: attempts.prefault({}),
  release: z.strictObject({ perSecond: field('number', z.number().min(0.01).max(100_000).default(10)) }).prefault({}),
  breaker: z.strictObject({ failures: count(3, 1_000_000, 20), probeMs: durationMs(100, 60_000) }).prefault({}),
  silentAfterMs: durationMs(500, 300_000),
  launchTimeoutMs: durationMs(1000, 90_000),
  orphans: choice(['kill', 'adopt'], 'kill'),
  notMovingAfterMs: field('number', whole(1000, MAX_MS).optional(), { shown: '2 × loops.pollStaleThresholdMs' }),
  noWorkerAfterMs: durationMs(500, 30_000),
  lockDurationMs: durationMs(1000, 30_000),
  onStuck: choice(['report', 'terminate'], 'report'),
})

const loops = z.strictObject({
  pollIntervalMs: durationMs(1000, 5000, { env: ['UNSTUCK_POLL_INTERVAL_MS'] }, 60_000),
  pollStaleThresholdMs: field('number', whole(1000, MAX_MS).optional(), {
    env: ['UNSTUCK_POLL_STALE_THRESHOLD_MS'],
    shown: 'max(60000, 10 × loops.pollIntervalMs)',
  }),
  startGraceMs: durationMs(500, 30_000),
})

const heartbeat = z.strictObject({
  intervalMs: durationMs(100, 1000, { env: ['UNSTUCK_HEARTBEAT_INTERVAL_MS'] }, 10_000),
  timeoutMs: durationMs(200, 5000, { env: ['UNSTUCK_HEARTBEAT_TIMEOUT_MS'] }),
  loopBlockedMs: durationMs(100, 5000, { env: ['UNSTUCK_LOOP_BLOCKED_MS'] }),
  threadBlockedMs: durationMs(100, 10_000, { env: ['UNSTUCK_THREAD_BLOCKED_MS'] }),
})

const watchdog = z.strictObject({
  intervalMs: durationMs(50, 1000, { env: ['UNSTUCK_WATCHDOG_INTERVAL_MS'] }, 1000),
  goneAfterMs: durationMs(1000, 600_000),
  redisUnreachableAfterMs: durationMs(100, 5000),
  dumpOnStuck: field('boolean', z.boolean().default(true), { env: ['UNSTUCK_DUMP_ON_STUCK'] }),
  deadmanUrl: field('text', z.url({ protocol: /^https?$/, error: 'must be an http or https address' }).optional(), {
    env: ['UNSTUCK_DEADMAN_URL'],
    secret: true,
    shown: 'none',
  }),
})

const http = z.strictObject({
  host: field('text', hostName.default('127.0.0.1'), { env: ['UNSTUCK_HOST'] }),
  port: port(7373, 'UNSTUCK_PORT'),
  token: field('text', token.optional(), { env: ['UNSTUCK_TOKEN'], secret: true, shown: 'none' }),
  readToken: field('text', token.optional(), { env: ['UNSTUCK_READ_TOKEN'], secret: true, shown: 'none' }),
  openMetrics: field('boolean', z.boolean().default(false), { env: ['UNSTUCK_OPEN_METRICS'] }),
})

const supervisor = z.strictObject({
  name: field('text', label.optional(), { env: ['UNSTUCK_NAME'], shown: 'host name and a number' }),
  group: field('text', label.optional(), { env: ['UNSTUCK_GROUP'], shown: 'none' }),
  host: field('text', hostName.optional(), { env: ['UNSTUCK_SUPERVISOR_HOST'], shown: 'http.host' }),
  port: port(7374, 'UNSTUCK_SUPERVISOR_PORT'),
  drainMs: durationMs(0, 30_000),
  runtimeDir: field('text', pathText.default('.unstuck/run'), { env: ['UNSTUCK_RUNTIME_DIR'] }),
})

const log = z.strictObject({
  level: choice(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'], 'info', { env: ['UNSTUCK_LOG_LEVEL'] }),
  format: field('text', z.enum(['json', 'pretty']).optional(), {
    env: ['UNSTUCK_LOG_FORMAT'],
    shown: 'pretty on a terminal, json otherwise',
  }),
})

const telemetry = z.strictObject({
  tracing: field('boolean', z.boolean().default(false), { env: ['UNSTUCK_TRACING'] }),
})

export const configSchema = z.strictObject({
  redis: redis.prefault({}),
  queues: z.record(z.string(), queue).default({}),
  loops: loops.prefault({}),
  heartbeat: heartbeat.prefault({}),
  watchdog: watchdog.prefault({}),
  http: http.prefault({}),
  supervisor: supervisor.prefault({}),
  log: log.prefault({}),
  telemetry: telemetry.prefault({}),
})

export type ParsedConfig = z.output<typeof configSchema>

type Settable<T> = { readonly [K in keyof T]?: T[K] | undefined }

export interface SessionInput extends Settable<Omit<SessionConfig, 'command' | 'workspace'>> {
  /** With a slash: a path relative to the config file. Without: looked for on PATH. Never given to a shell. */
  readonly command: string
  /** `git` is a repository's path, relative to the config file. */
  readonly workspace?: Settable<SessionConfig['workspace']>
}

/** What runs the jobs: the one or the other. */
type RunnerInput =
  | {
      /** The module whose default export runs a job: a path relative to the config file, or a file URL. */
      readonly handler: string | URL
      readonly session?: undefined
    }
  | { readonly session: SessionInput; readonly handler?: undefined }

interface QueueSettings extends Settable<Omit<QueueConfig, 'handler' | 'session' | 'attempts' | 'release' | 'breaker'>> {
  readonly attempts?: Settable<AttemptsConfig>
  readonly release?: Settable<QueueConfig['release']>
  readonly breaker?: Settable<QueueConfig['breaker']>
}

export type QueueInput = QueueSettings & RunnerInput

/** What a user writes: every key of the reference, all optional but each queue's handler or session. Durations are milliseconds. */
export type ConfigInput = { readonly [S in Exclude<keyof Config, 'queues'>]?: Settable<Config[S]> } & {
  readonly queues?: Readonly<Record<string, QueueInput>>
}

/** Gives a config file its types; checks nothing by itself. */
export function defineConfig(input: ConfigInput): ConfigInput {
  return input
}

export interface ConfigKey {
  /** `queues.NAME.threads`: NAME stands for any queue. */
  readonly key: string
  /** The variables that set it, the strongest first. */
  readonly env: readonly string[]
  readonly kind: FieldKind
  readonly secret: boolean
  /** The default as text, JSON where it is a plain value. */
  readonly default: string
}

/** Every key there is, in the order of the reference. */
export function configKeys(): ConfigKey[] {
  return keysIn(configSchema, '')
}

function keysIn(schema: z.ZodObject, prefix: string): ConfigKey[] {
  return Object.entries(schema.shape).flatMap(([name, member]) => {
    const key = `${prefix}${name}`
    const nested = objectIn(member)
    if (nested) return keysIn(nested.schema, nested.named ? `${key}.NAME.` : `${key}.`)
    const info = member instanceof z.ZodType ? fields.get(member) : undefined
    if (!info || !(member instanceof z.ZodType)) return []
    const { kind, env = [], secret = false, shown = JSON.stringify(member.parse(undefined)) } = info
    return [{ key, env, kind, secret, default: shown }]
  })
}

/** The object schema behind defaults, behind what may be missing and behind the names of a record. */
function objectIn(schema: unknown): { schema: z.ZodObject; named: boolean } | undefined {
  if (schema instanceof z.ZodPrefault || schema instanceof z.ZodDefault || schema instanceof z.ZodOptional) {
    return objectIn(schema.unwrap())
  }
  if (schema instanceof z.ZodRecord) {
    const inner = objectIn(schema.valueType)
    return inner && { ...inner, named: true }
  }
  return schema instanceof z.ZodObject ? { schema, named: false } : undefined
}

/** The names that may stand at a path: for a suggestion when another one does. */
export function namesAt(path: readonly PropertyKey[]): string[] {
  let schema: z.ZodObject = configSchema
  for (let depth = 0; depth < path.length; depth++) {
    const found = objectIn(schema.shape[String(path[depth])])
    if (!found) return []
    schema = found.schema
    if (found.named) depth++
  }
  return Object.keys(schema.shape)
}
