/**
 * From what a user wrote to what is in force: checked, completed, cross-checked, frozen. Everything wrong is said at
 * once, in one line that names each key, what is wrong with it and the fix. Secrets are never part of a message.
 */
import { statSync } from 'node:fs'
import { isAbsolute, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { z } from 'zod'
import { UserError } from '../kernel/errors.js'
import type { Config, QueueConfig, SessionConfig } from './config.js'
import { configKeys, configSchema, namesAt, type ParsedConfig } from './config-schema.js'
import { defaultLogFormat } from './pino-logger.js'
import { redactUrl } from './redis.js'

export interface ParseOptions {
  /** What paths of handlers, commands and repositories are relative to: the folder of the config file. */
  readonly baseDir: string
  /** What the runtime folder is relative to. Default: the working folder. */
  readonly cwd?: string
  /** False for whoever runs no jobs, and may live where the handlers are not. Default true. */
  readonly handlersMustExist?: boolean
  /** Where a key's value came from when not from the input itself, to name it in messages: key → `UNSTUCK_PORT`. */
  readonly origins?: ReadonlyMap<string, string>
}

/**
 * @param input what `defineConfig` takes; anything else is refused
 * @throws UserError CONFIG_INVALID with every problem in one line, or HANDLER_NOT_FOUND
 */
export function parseConfig(input: unknown, options: ParseOptions): Config {
  refuse(hostileKeysIn(input))
  const parsed = configSchema.safeParse(input)
  if (!parsed.success) {
    refuse(parsed.error.issues.flatMap((issue) => problemsOf(issue, input, options.origins)))
    throw new UserError('CONFIG_INVALID', 'config: not valid')
  }
  const config = complete(parsed.data, options.baseDir, options.cwd ?? process.cwd())
  refuse([...queueProblems(parsed.data), ...contradictionsIn(config)])
  if (options.handlersMustExist ?? true) checkHandlers(config)
  return deepFreeze(config)
}

/** One line, whatever the names in it hold. */
function refuse(problems: readonly string[]): void {
  if (problems.length > 0) throw new UserError('CONFIG_INVALID', problems.join('; ').replace(/\p{Cc}+/gu, ' '))
}

/** Fills in the defaults that follow from other keys. */
function complete(parsed: ParsedConfig, baseDir: string, cwd: string): Config {
  const { redis, loops, watchdog, http, supervisor, log, telemetry } = parsed
  const pollStaleThresholdMs = loops.pollStaleThresholdMs ?? Math.max(60_000, 10 * loops.pollIntervalMs)
  const queues = Object.entries(parsed.queues).map(([name, queue]): [string, QueueConfig] => [
    name,
    {
      ...queue,
      handler: queue.handler === undefined ? undefined : handlerPath(queue.handler, baseDir),
      session: queue.session && sessionOf(queue.session, baseDir),
      notMovingAfterMs: queue.notMovingAfterMs ?? 2 * pollStaleThresholdMs,
    },
  ])
  return {
    redis: { ...redis, url: redis.url },
    queues: Object.fromEntries(queues),
    loops: { ...loops, pollStaleThresholdMs },
    heartbeat: parsed.heartbeat,
    watchdog: { ...watchdog, deadmanUrl: watchdog.deadmanUrl },
    http: { ...http, token: http.token, readToken: http.readToken },
    supervisor: {
      ...supervisor,
      name: supervisor.name,
      group: supervisor.group,
      host: supervisor.host ?? http.host,
      runtimeDir: resolve(cwd, supervisor.runtimeDir),
    },
    log: { level: log.level, format: log.format ?? defaultLogFormat() },
    telemetry,
  }
}

function handlerPath(handler: string, baseDir: string): string {
  if (handler.startsWith('file:')) return fileURLToPath(handler)
  return isAbsolute(handler) ? handler : resolve(baseDir, handler)
}

function sessionOf(session: NonNullable<ParsedConfig['queues'][string]['session']>, baseDir: string): SessionConfig {
  const { command, workspace } = session
  return {
    ...session,
    command: command.includes('/') ? resolve(baseDir, command) : command,
    workspace: { git: workspace.git === undefined ? undefined : resolve(baseDir, workspace.git), base: workspace.base },
  }
}

/** Why a queue cannot have this name, or undefined when it can. BullMQ and Redis Cluster read `:`, `{` and `}` themselves. */
export function queueNameProblem(name: string): string | undefined {
  if (/^[A-Za-z0-9._-]{1,100}$/.test(name)) return undefined
  return `the queue name ${JSON.stringify(name)} must be 1 to 100 letters, digits, ".", "_" or "-"; rename the queue`
}

function queueProblems(parsed: ParsedConfig): string[] {
  return Object.entries(parsed.queues).flatMap(([name, queue]) => {
    const problem = queueNameProblem(name)
    if (problem) return [`queues: ${problem}`]
    return [...runnerProblems(name, queue), ...workspaceProblems(name, queue.session)]
  })
}

function runnerProblems(name: string, { handler, session }: ParsedConfig['queues'][string]): string[] {
  if (handler !== undefined && session !== undefined) {
    return [`queues.${name}: has a handler and a session; keep the one that runs its jobs`]
  }
  return handler === undefined && session === undefined
    ? [`queues.${name}.handler: missing; name the module whose default export runs a job, or a session`]
    : []
}

function workspaceProblems(name: string, session: ParsedConfig['queues'][string]['session']): string[] {
  if (session?.workspace.base === undefined || session.workspace.git !== undefined) return []
  return [`queues.${name}.session.workspace.base: there is no repository to take it from; set workspace.git or remove it`]
}

/** Values that are fine alone and cannot hold together. */
function contradictionsIn(config: Config): string[] {
  const { redis, loops, heartbeat, watchdog, http } = config
  const problems: string[] = []
  const atLeast = (key: string, value: number, least: number, why: string) => {
    if (value < least) problems.push(`${key}: ${value} is below ${why} (${least}); raise it to ${least} or more`)
  }
  atLeast('loops.pollStaleThresholdMs', loops.pollStaleThresholdMs, 2 * loops.pollIntervalMs, '2 × loops.pollIntervalMs')
  atLeast('heartbeat.timeoutMs', heartbeat.timeoutMs, 2 * heartbeat.intervalMs, '2 × heartbeat.intervalMs')
  atLeast('watchdog.goneAfterMs', watchdog.goneAfterMs, heartbeat.timeoutMs, 'heartbeat.timeoutMs')
  const twoLooks = 2 * watchdog.intervalMs
  atLeast('watchdog.redisUnreachableAfterMs', watchdog.redisUnreachableAfterMs, twoLooks, '2 × watchdog.intervalMs')
  for (const [name, queue] of Object.entries(config.queues)) {
    if (queue.notMovingAfterMs > loops.pollStaleThresholdMs) continue
    problems.push(
      `queues.${name}.notMovingAfterMs: ${queue.notMovingAfterMs} must exceed loops.pollStaleThresholdMs ` +
        `(${loops.pollStaleThresholdMs}); raise it or lower the threshold`,
    )
  }
  if (redis.prefix === redis.bullPrefix) {
    problems.push(`redis.prefix: "${redis.prefix}" is also redis.bullPrefix; give the two different names`)
  }
  if (http.token === undefined && !isLoopback(http.host)) {
    problems.push(
      `http.host: "${http.host}" is reachable from other machines and http.token is not set; set a token or use 127.0.0.1`,
    )
  }
  return [...problems, ...readTokenProblems(http)]
}

function readTokenProblems({ token, readToken }: Config['http']): string[] {
  if (readToken === undefined) return []
  if (token === undefined) {
    return ['http.readToken: http.token is not set, so everybody on this machine may do everything; set http.token too']
  }
  return token === readToken ? ['http.readToken: is http.token; give the two different values'] : []
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host)
}

function checkHandlers(config: Config): void {
  for (const [name, { handler }] of Object.entries(config.queues)) {
    if (handler === undefined || isFile(handler)) continue
    const near = ['.mjs', '.js', '.ts', '.mts', '/index.js'].find((ending) => isFile(handler + ending))
    const fix = near === undefined ? 'create it or correct the path' : `did you mean "${handler}${near}"?`
    throw new UserError('HANDLER_NOT_FOUND', `queues.${name}.handler: there is no file ${handler}; ${fix}`)
  }
}

function isFile(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isFile() ?? false
}

/** Names that reach an object's prototype where code copies keys without care. */
function hostileKeysIn(value: unknown, path = ''): string[] {
  if (typeof value !== 'object' || value === null || value instanceof URL) return []
  return Object.keys(value).flatMap((key) => {
    if (key === '__proto__' || key === 'constructor' || key === 'prototype') return [`${path}${key}: this name is not allowed`]
    return hostileKeysIn(Reflect.get(value, key), `${path}${key}.`)
  })
}

function problemsOf(issue: z.core.$ZodIssue, input: unknown, origins?: ReadonlyMap<string, string>): string[] {
  const key = issue.path.map(String).join('.')
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((name) => {
      const near = nearest(name, namesAt(issue.path))
      return `${key ? `${key}.` : ''}${name}: unknown key; ${near ? `did you mean "${near}"?` : 'remove it'}`
    })
  }
  const origin = origins?.get(key) ?? origins?.get(anyQueue(issue.path))
  const value = isSecret(anyQueue(issue.path)) ? '' : shownValue(issue.path.reduce(memberOf, input))
  return [`${key || 'config'}${origin ? ` (from ${origin})` : ''}: ${expectationOf(issue)}${value && `, not ${value}`}`]
}

function expectationOf(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case 'too_small':
      return issue.origin === 'array' ? 'must not be empty' : `must be at least ${issue.minimum}`
    case 'too_big':
      return issue.origin === 'array' ? `must have at most ${issue.maximum} entries` : `must be at most ${issue.maximum}`
    case 'invalid_value':
      return `must be ${issue.values.map((value) => JSON.stringify(value)).join(' or ')}`
    case 'invalid_type':
      return `must be ${typeNames[issue.expected] ?? `of type ${issue.expected}`}`
    default:
      return issue.message
  }
}

const typeNames: Partial<Record<string, string>> = {
  int: 'a whole number',
  number: 'a number',
  string: 'a text',
  boolean: 'true or false',
  array: 'a list',
  object: 'an object of keys and values',
  record: 'an object of keys and values',
}

function memberOf(value: unknown, key: PropertyKey): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, key) : undefined
}

function shownValue(value: unknown): string {
  const text = typeof value === 'number' ? String(value) : JSON.stringify(value)
  return text === undefined || text.length > 60 ? '' : text
}

/** `queues.images.threads` → `queues.NAME.threads`. */
function anyQueue(path: readonly PropertyKey[]): string {
  return path.map((part, depth) => (depth === 1 && path[0] === 'queues' ? 'NAME' : String(part))).join('.')
}

/** What is inside a secret is one too. */
function isSecret(key: string): boolean {
  return configKeys().some((known) => known.secret && `${key}.`.startsWith(`${known.key}.`))
}

/** The known name that a misspelt one most likely means, or undefined when none is near. */
function nearest(name: string, candidates: readonly string[]): string | undefined {
  const ranked = candidates
    .map((candidate) => ({ candidate, distance: editDistance(name.toLowerCase(), candidate.toLowerCase()) }))
    .sort((a, b) => a.distance - b.distance)
  const best = ranked[0]
  return best && best.distance <= Math.max(2, Math.floor(best.candidate.length / 3)) ? best.candidate : undefined
}

/** Levenshtein's distance. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const replaced = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(replaced, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1))
    }
    row = next
  }
  return row[b.length] ?? 0
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value)
    for (const member of Object.values(value)) deepFreeze(member)
  }
  return value
}

/** What is in force, to print: secrets are hidden, an address keeps its host. */
export function describeConfig(config: Config): Record<string, unknown> {
  const { redis, queues, watchdog, http } = config
  return {
    ...config,
    queues: Object.fromEntries(Object.entries(queues).map(([name, queue]) => [name, describeQueue(queue)])),
    redis: { ...redis, url: redis.url === undefined ? undefined : redactUrl(redis.url) },
    watchdog: {
      ...watchdog,
      deadmanUrl: watchdog.deadmanUrl === undefined ? undefined : `${new URL(watchdog.deadmanUrl).origin}/…`,
    },
    http: { ...http, token: hidden(http.token), readToken: hidden(http.readToken) },
  }
}

function hidden(secret: string | undefined): string | undefined {
  return secret === undefined ? undefined : '(hidden)'
}

function describeQueue(queue: QueueConfig): Record<string, unknown> {
  if (!queue.session) return { ...queue }
  const env = Object.entries(queue.session.env).map(([name, value]) => [name, value === true ? true : '(hidden)'])
  return { ...queue, session: { ...queue.session, env: Object.fromEntries(env) } }
}
