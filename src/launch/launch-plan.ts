/**
 * What a session will be, from its queue's settings and its job; decided before anything is touched. Job data comes from
 * whoever may enqueue, so it fills whole arguments only, and only with what no program takes for an option, a path out of
 * its folder or a piece of a script. Everything else of it goes to the session's standard input.
 */
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import type { SessionConfig } from '../platform/config.js'
import { LaunchError, type WorkspacePlan } from './session.js'

export interface SessionJob {
  readonly id: string
  readonly name: string
  readonly queue: string
  readonly data: unknown
  readonly group: string | undefined
  /** 1 for the first try. */
  readonly attempt: number
  readonly fence: number
}

export interface LaunchRequest {
  readonly session: SessionConfig
  readonly job: SessionJob
  /** Absolute path. */
  readonly runtimeDir: string
  /** Path of the socket on which the session reaches its supervisor. */
  readonly socket: string
  /** The supervisor's own environment. */
  readonly inherited: Readonly<Record<string, string | undefined>>
}

export interface LaunchPlan {
  /** As configured: an absolute path, or a name to look for on the PATH of `env`. */
  readonly command: string
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string>>
  /** The job's data as JSON. */
  readonly input: string
  readonly folder: string
  readonly workspace: WorkspacePlan
  /** Name of the tmux session, when there is to be one. */
  readonly tmux?: string
}

/** What a session gets of the supervisor's environment without being asked, beside `LC_*`. */
const PASSED_ON = ['PATH', 'HOME', 'USER', 'LOGNAME', 'SHELL', 'LANG', 'TZ', 'TERM', 'TMPDIR']

/** Characters of a filled argument, and of a job's id. */
const MAX_FILLED = 8192

/** @throws LaunchError (permanent) when the job's id or data cannot be used; it names the argument, never its value */
export function planLaunch(request: LaunchRequest): LaunchPlan {
  const { session, job, runtimeDir } = request
  const problem = idProblem(job.id)
  if (problem !== undefined) throw refusal(`the job's id ${problem}; add the job again with a short and plain one`)
  const args = session.args.map((arg) => filled(arg, job))
  const queue = slugOf(job.queue)
  const slug = slugOf(job.id)
  const folder = join(runtimeDir, 'sessions', queue, `${slug}-${job.fence}`)
  const { git: repo, base } = session.workspace
  const git =
    repo === undefined ? {} : { git: { repo, ...(base === undefined ? {} : { base }), branch: `unstuck/${queue}/${slug}` } }
  return {
    command: session.command,
    args,
    env: environment(request, folder),
    input: JSON.stringify(job.data) ?? 'null',
    folder,
    workspace: { path: join(folder, 'workspace'), ...git },
    ...(session.tmux ? { tmux: tmuxName(folder, `${queue}-${slug}-${job.fence}`) } : {}),
  }
}

function refusal(message: string): LaunchError {
  return new LaunchError(message, { permanent: true })
}

function idProblem(id: string): string | undefined {
  if (id.includes('\0')) return 'holds a NUL'
  return id.length > MAX_FILLED ? `is longer than ${MAX_FILLED} characters` : undefined
}

/**
 * A name of a job, or of a queue, for a folder and as a part of a git branch. One that is safe is its own; the others end
 * in `+` and a hash, which no safe one can: so two ids never share a name.
 */
function slugOf(id: string): string {
  const safe = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(id) && !id.includes('..') && !/(\.|\.lock)$/i.test(id)
  return safe ? id : `${id.slice(0, 40).replace(/[^A-Za-z0-9_-]/g, '-')}+${hashOf(id, 12)}`
}

function hashOf(text: string, length: number): string {
  // As UTF-16: in UTF-8 all lone surrogates are one character.
  return createHash('sha256').update(text, 'utf16le').digest('hex').slice(0, length)
}

/** tmux reads `.` and `:` itself; the hash keeps apart what looks the same without them, and other supervisors' sessions. */
function tmuxName(folder: string, readable: string): string {
  return `unstuck-${readable.replace(/[^A-Za-z0-9_-]/g, '_')}-${hashOf(folder, 8)}`
}

function environment({ session, job, socket, inherited }: LaunchRequest, folder: string): Record<string, string> {
  const env: Record<string, string> = {}
  const set = (name: string, value: string | undefined) => {
    if (value !== undefined) env[name] = value
  }
  const passedOn = Object.keys(inherited).filter((name) => PASSED_ON.includes(name) || name.startsWith('LC_'))
  for (const name of passedOn) set(name, inherited[name])
  for (const [name, value] of Object.entries(session.env)) set(name, value === true ? inherited[name] : value)
  set('UNSTUCK_JOB_ID', job.id)
  set('UNSTUCK_QUEUE', job.queue)
  set('UNSTUCK_ATTEMPT', String(job.attempt))
  set('UNSTUCK_FENCE', String(job.fence))
  set('UNSTUCK_HEARTBEAT_FILE', join(folder, 'heartbeat'))
  set('UNSTUCK_SOCKET', socket)
  return env
}

/** Braces that are not the whole argument mean nothing. */
function filled(arg: string, job: SessionJob): string {
  const path = /^\{([A-Za-z_][A-Za-z0-9_.]*)\}$/.exec(arg)?.[1]
  if (path === undefined) return arg
  const value = valueAt(path, job)
  const text = textOf(value)
  if (text === undefined) {
    throw refusal(`session.args: ${arg} ${kindOf(value)}; it needs a text, a number or a boolean of the job's data`)
  }
  const problem = textProblem(text)
  if (problem === undefined) return text
  throw refusal(
    `session.args: what the job has for ${arg} ${problem}; free text belongs on standard input, where all its data is`,
  )
}

function valueAt(path: string, job: SessionJob): unknown {
  const { id, name, queue, group, attempt, fence } = job
  const own = new Map<string, unknown>(
    Object.entries({ id, name, queue, group, attempt, fence }).map(([key, value]) => [`job.${key}`, value]),
  )
  return own.has(path) ? own.get(path) : path.split('.').reduce(memberOf, job.data)
}

/** Own members of objects only: nothing that a prototype has, no list's length. */
function memberOf(value: unknown, key: string): unknown {
  if (key === '__proto__' || key === 'constructor' || key === 'prototype') return undefined
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined
  return Object.hasOwn(value, key) ? Reflect.get(value, key) : undefined
}

function textOf(value: unknown): string | undefined {
  if (typeof value === 'string') return value
  if (typeof value === 'boolean' || (typeof value === 'number' && Number.isFinite(value))) return String(value)
  return undefined
}

function kindOf(value: unknown): string {
  if (value === undefined) return 'is missing'
  if (value === null) return 'is null'
  if (Array.isArray(value)) return 'is a list'
  return typeof value === 'object' ? 'is an object' : `is no plain ${typeof value}`
}

function textProblem(text: string): string | undefined {
  if (text.length > MAX_FILLED) return `is longer than ${MAX_FILLED} characters`
  if (/\p{Cc}/u.test(text)) return 'holds a control character'
  if (text.startsWith('-')) return 'begins with "-", as an option does'
  if (text.split(/[/\\]/).includes('..')) return 'holds the path segment ".."'
  return /\$\(|\$\{|`/.test(text) ? 'holds "$(", "${" or a backtick' : undefined
}
