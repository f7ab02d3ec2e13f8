/**
 * Where the config comes from: flag over environment over file over default. This file gathers; what is valid is
 * decided in one place, by `parseConfig`, whatever the source.
 */
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { messageOf, UserError } from '../kernel/errors.js'
import type { Config } from './config.js'
import { parseConfig } from './config-parse.js'
import { type ConfigKey, configKeys } from './config-schema.js'

/** Looked for in the working folder, in this order. */
const FILE_NAMES = ['unstuck.config.mjs', 'unstuck.config.js', 'unstuck.config.json']

export interface ConfigSources {
  /** The working folder: config files are looked for here, and handlers are relative to it when there is none. */
  readonly cwd: string
  /** `--config FILE`. */
  readonly file?: string | undefined
  readonly env: Readonly<Record<string, string | undefined>>
  /** In the shape of the file; undefined members are not set. */
  readonly flags?: object | undefined
  /** False for commands that run no jobs. Default true. */
  readonly handlersMustExist?: boolean | undefined
}

type Tree = Record<string, unknown>

/** @throws UserError CONFIG_NOT_FOUND, CONFIG_INVALID or HANDLER_NOT_FOUND, each in one line */
export async function loadConfig({ cwd, file, env, flags = {}, handlersMustExist = true }: ConfigSources): Promise<Config> {
  const path = findFile(cwd, file)
  const fromFile = path === undefined ? {} : await readConfigFile(path)
  const origins = new Map<string, string>()
  const tree = merged(withEnvironment(fromFile, flags, env, origins), flags)
  for (const key of leavesOf(flags)) origins.delete(key)
  return parseConfig(tree, { baseDir: path === undefined ? cwd : dirname(path), cwd, handlersMustExist, origins })
}

/**
 * What the environment alone says, for code that lives in somebody else's process: no file is read.
 * @throws UserError CONFIG_INVALID
 */
export function configFromEnvironment(env: ConfigSources['env'], over: object = {}): Config {
  const origins = new Map<string, string>()
  const tree = merged(withEnvironment({}, over, env, origins), over)
  for (const key of leavesOf(over)) origins.delete(key)
  return parseConfig(tree, { baseDir: process.cwd(), handlersMustExist: false, origins })
}

function findFile(cwd: string, file: string | undefined): string | undefined {
  if (file === undefined) return FILE_NAMES.map((name) => join(cwd, name)).find((path) => existsSync(path))
  const path = resolve(cwd, file)
  if (!existsSync(path)) throw new UserError('CONFIG_NOT_FOUND', `--config: there is no file ${path}; correct the path`)
  return path
}

async function readConfigFile(path: string): Promise<Tree> {
  const content = path.endsWith('.json') ? readJson(path) : await importDefault(path)
  if (!isTree(content)) {
    throw new UserError('CONFIG_INVALID', `${path}: does not give an object; write \`export default { queues: { … } }\``)
  }
  return content
}

function readJson(path: string): unknown {
  const text = readFileSync(path, 'utf8')
  const problem = jsonProblem(text)
  if (problem === undefined) return JSON.parse(text)
  const before = text.slice(0, offsetOfJsonProblem(text)).split('\n')
  const where = `line ${before.length}, column ${(before.at(-1)?.length ?? 0) + 1}`
  // Node 20 gives the offset for some mistakes only, and quotes the text, which may hold a secret.
  const reason = oneLine(problem.replace(/( in JSON)? at position .*$/s, '').replace(/, (\.{3})?".*$/s, ''))
  throw new UserError('CONFIG_INVALID', `${path}: ${reason} at ${where}; correct the file`)
}

function jsonProblem(text: string): string | undefined {
  try {
    JSON.parse(text)
    return undefined
  } catch (error) {
    return messageOf(error)
  }
}

/** Length of the longest beginning that only lacks its end: what follows it is the mistake. */
function offsetOfJsonProblem(text: string): number {
  let good = 0
  let bad = text.length + 1
  while (bad - good > 1) {
    const middle = Math.floor((good + bad) / 2)
    const problem = jsonProblem(text.slice(0, middle))
    const onlyCut = problem === undefined || /end of JSON|Unterminated/.test(problem) || problem.includes(`position ${middle}`)
    if (onlyCut) good = middle
    else bad = middle
  }
  return good
}

async function importDefault(path: string): Promise<unknown> {
  try {
    const loaded: unknown = await import(pathToFileURL(path).href)
    return isTree(loaded) ? loaded['default'] : undefined
  } catch (error) {
    throw new UserError('CONFIG_INVALID', `${path}: could not be loaded: ${oneLine(messageOf(error))}${placeOf(error, path)}`)
  }
}

/** `, line 3` when the error says where in the file it came from. */
function placeOf(error: unknown, path: string): string {
  if (!(error instanceof Error) || error.stack === undefined) return ''
  const after = error.stack.split(pathToFileURL(path).href)[1] ?? error.stack.split(path)[1]
  const line = /^:(\d+)/.exec(after ?? '')?.[1]
  return line === undefined ? '' : `, line ${line}`
}

function oneLine(text: string): string {
  return text.replace(/\s+/g, ' ').trim()
}

/** The file's tree with what the environment sets. Variables of queues apply to every queue of the file and the flags. */
function withEnvironment(file: Tree, flags: object, env: ConfigSources['env'], origins: Map<string, string>): Tree {
  const queues = [...new Set([file, flags].flatMap((source) => queueNamesIn(source)))]
  let result = file
  for (const key of configKeys()) {
    const found = variableOf(key, env)
    if (!found) continue
    origins.set(key.key, found.name)
    const value = typedValue(key, found.value)
    const path = key.key.split('.')
    const paths = path.includes('NAME') ? queues.map((name) => path.map((part) => (part === 'NAME' ? name : part))) : [path]
    for (const one of paths) result = merged(result, nested(one, value))
  }
  return result
}

function queueNamesIn(source: object): string[] {
  const queues: unknown = Reflect.get(source, 'queues')
  return isTree(queues) ? Object.keys(queues) : []
}

/** An empty variable counts as not set, as compose files and CI leave them. */
function variableOf(key: ConfigKey, env: ConfigSources['env']): { name: string; value: string } | undefined {
  for (const name of key.env) {
    const value = env[name]?.trim()
    if (value) return { name, value }
    const file = key.secret ? env[`${name}_FILE`]?.trim() : undefined
    if (file) return { name: `${name}_FILE`, value: readSecret(`${name}_FILE`, file) }
  }
  return undefined
}

function readSecret(variable: string, file: string): string {
  let secret: string
  try {
    secret = readFileSync(file, 'utf8').trim()
  } catch (error) {
    throw new UserError(
      'CONFIG_INVALID',
      `${variable}: ${file} cannot be read (${oneLine(messageOf(error))}); correct the path`,
    )
  }
  if (secret === '') throw new UserError('CONFIG_INVALID', `${variable}: ${file} is empty; write the secret into it`)
  return secret
}

/** What is no number or truth value stays a text, and is refused as such by name. */
function typedValue(key: ConfigKey, text: string): unknown {
  if (key.kind === 'number') return /^-?\d+(\.\d+)?$/.test(text) ? Number(text) : text
  if (key.kind === 'boolean') return { true: true, '1': true, false: false, '0': false }[text.toLowerCase()] ?? text
  return text
}

function nested(path: readonly string[], value: unknown): Tree {
  const [first = '', ...rest] = path
  return { [first]: rest.length === 0 ? value : nested(rest, value) }
}

/** A copy of `base` with the members that `over` sets. A key named like an inherited member stays a plain key. */
function merged(base: object, over: object): Tree {
  const result = new Map<string, unknown>(Object.entries(base))
  for (const [key, value] of Object.entries(over)) {
    if (value === undefined) continue
    const below = result.get(key)
    result.set(key, isTree(value) && isTree(below) ? merged(below, value) : value)
  }
  // fromEntries defines members, so that "__proto__" becomes a key to refuse and not a prototype.
  return Object.fromEntries(result)
}

function leavesOf(tree: object, prefix = ''): string[] {
  return Object.entries(tree).flatMap(([key, value]) => {
    if (value === undefined) return []
    return isTree(value) ? leavesOf(value, `${prefix}${key}.`) : [`${prefix}${key}`]
  })
}

function isTree(value: unknown): value is Tree {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof URL)
}
