/** Real processes for end-to-end tests: the command line from dist, its log lines as they come, and its end. */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { Redis } from 'ioredis'
import { onTestFinished } from 'vitest'
import { startTestRedis, type TestRedis, type TestRedisOptions } from './redis.js'

const MAIN = resolve(import.meta.dirname, '../../dist/cli/main.js')

export interface LogLine {
  readonly level: number
  readonly msg: string
  readonly event?: string
  readonly [field: string]: unknown
}

export interface Running {
  readonly pid: number
  readonly child: ChildProcess
  /** All log lines so far. */
  readonly lines: LogLine[]
  /** Standard output and error, raw. */
  output(): string
  /** The first line, past or to come, that fits. Rejects with the output when the process ends or time runs out. */
  line(fits: (line: LogLine) => boolean, limitMs?: number): Promise<LogLine>
  kill(signal: NodeJS.Signals): void
  /** Code or signal. */
  readonly exited: Promise<number | NodeJS.Signals>
}

export interface LaunchOptions {
  readonly cwd?: string
  readonly env?: NodeJS.ProcessEnv
  /** A module preloaded into the process. */
  readonly preload?: string
}

/** Starts `unstuck ARGS`; ended with the test. */
export function unstuck(args: readonly string[], options: LaunchOptions = {}): Running {
  const preload = options.preload === undefined ? [] : ['--import', options.preload]
  return launch(process.execPath, [...preload, MAIN, ...args], options)
}

export function launch(command: string, args: readonly string[], { cwd, env }: LaunchOptions = {}): Running {
  const child = spawn(command, args, {
    cwd,
    env: { ...process.env, UNSTUCK_LOG_FORMAT: 'json', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const running = watch(child)
  onTestFinished(async () => {
    child.kill('SIGCONT')
    child.kill('SIGKILL')
    await running.exited
  })
  return running
}

function watch(child: ChildProcess): Running {
  const lines: LogLine[] = []
  const waiters = new Set<() => void>()
  let output = ''
  let rest = ''
  let ended = false
  const tell = () => {
    for (const waiter of [...waiters]) waiter()
  }
  child.stdout?.on('data', (chunk: Buffer) => {
    output += chunk.toString()
    rest += chunk.toString()
    const parts = rest.split('\n')
    rest = parts.pop() ?? ''
    for (const part of parts) {
      if (part.startsWith('{')) lines.push(JSON.parse(part) as LogLine)
    }
    tell()
  })
  child.stderr?.on('data', (chunk: Buffer) => {
    output += chunk.toString()
  })
  const exited = new Promise<number | NodeJS.Signals>((done) => {
    child.once('close', (code, signal) => {
      ended = true
      tell()
      done(code ?? signal ?? 'SIGKILL')
    })
  })
  return {
    pid: child.pid ?? 0,
    child,
    lines,
    output: () => output,
    exited,
    kill: (signal) => void child.kill(signal),
    line: (fits, limitMs = 40_000) =>
      new Promise((done, reject) => {
        const look = () => {
          const found = lines.find(fits)
          if (!found && !ended) return
          finish()
          if (found) done(found)
          else reject(new Error(`the process ended before the line came:\n${output}`))
        }
        const timer = setTimeout(() => {
          finish()
          reject(new Error(`no such line in ${limitMs} ms:\n${output}`))
        }, limitMs)
        const finish = () => {
          clearTimeout(timer)
          waiters.delete(look)
        }
        waiters.add(look)
        look()
      }),
  }
}

export interface Scene {
  readonly dir: string
  readonly redis: TestRedis
  readonly client: Redis
  /** Writes a config file, with this scene's Redis unless another address is given. @returns its path */
  config(name: string, config: object, redisUrl?: string): string
  /** Writes a handler module. @returns its path */
  handler(name: string, source: string): string
  supervisor(config: string, args?: readonly string[], options?: LaunchOptions): Promise<Running>
  watchdog(config: string, args?: readonly string[], options?: LaunchOptions): Promise<Running>
}

/** A folder, a Redis and a client of one's own, gone when the test ends. */
export async function scene(redisOptions: TestRedisOptions = {}): Promise<Scene> {
  const dir = mkdtempSync(join(tmpdir(), 'unstuck-e2e-'))
  const redis = await startTestRedis(redisOptions)
  const client = new Redis(redis.url)
  client.on('error', () => undefined)
  onTestFinished(async () => {
    client.disconnect()
    await redis.stop()
    rmSync(dir, { recursive: true, force: true })
  })
  const write = (name: string, text: string) => {
    const path = join(dir, name)
    writeFileSync(path, text)
    return path
  }
  const started = async (running: Running) => {
    await running.line((line) => line.event === 'started')
    return running
  }
  return {
    dir,
    redis,
    client,
    config: (name, config, redisUrl = redis.url) =>
      write(`${name}.json`, JSON.stringify({ redis: { url: redisUrl }, ...config })),
    handler: (name, source) => write(`${name}.mjs`, source),
    supervisor: (config, args = [], options = {}) =>
      started(unstuck(['supervisor', '--config', config, '--port', '0', ...args], { cwd: dir, ...options })),
    watchdog: (config, args = [], options = {}) =>
      started(unstuck(['watchdog', '--config', config, '--port', '0', ...args], { cwd: dir, ...options })),
  }
}

/** Waits until something in Redis or elsewhere is so: polled, since a store gives no signal; fails with what it saw last. */
export async function until<T>(read: () => Promise<T>, fits: (value: T) => boolean, limitMs = 40_000): Promise<T> {
  const deadline = performance.now() + limitMs
  for (;;) {
    const value = await read()
    if (fits(value)) return value
    if (performance.now() > deadline) throw new Error(`not so within ${limitMs} ms; last seen: ${JSON.stringify(value)}`)
    await new Promise((done) => setTimeout(done, 25))
  }
}
