/**
 * One process of `up`: started, watched, started again when it ends by itself, and ended. It runs in a process group of
 * its own, so that a Ctrl-C reaches only `up`, which ends everything in order; over its message channel it notices when
 * `up` is gone.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { messageOf, UserError, type UserErrorCode } from '../kernel/errors.js'
import { TIMED_OUT, within } from '../kernel/within.js'
import type { MemberMessage, ParentMessage } from './long-running.js'

export interface MemberOptions {
  readonly name: string
  /** The command and its options, as one would type them. */
  readonly args: readonly string[]
  readonly env: NodeJS.ProcessEnv
  /** How long one that ended by itself stays away, milliseconds: long enough for its death to be seen and said. */
  readonly restartAfterMs: number
  readonly onLine: (line: string) => void
  readonly onComplaint: (line: string) => void
  readonly onTrouble: (message: string, fields: object) => void
}

const MAX_RESTART_MS = 60_000
/** After SIGKILL the kernel needs no longer, milliseconds. */
const KILL_LIMIT_MS = 2000

type Ready = Extract<MemberMessage, { unstuck: 'ready' }>

export class Member {
  readonly #options: MemberOptions
  #child: ChildProcess | undefined
  #gone: Promise<void> = Promise.resolve()
  #restart: NodeJS.Timeout | undefined
  #ending = false
  #failures = 0

  constructor(options: MemberOptions) {
    this.#options = options
  }

  get name(): string {
    return this.#options.name
  }

  get pid(): number | undefined {
    return this.#child?.pid
  }

  /**
   * Waits until it is ready. A name that a process which was just killed still holds is waited for, once.
   * @throws UserError with its own words when it refuses to start
   */
  async start(): Promise<Ready> {
    try {
      return await this.#launch()
    } catch (error) {
      if (this.#ending || !(error instanceof UserError) || error.code !== 'NAME_TAKEN') throw error
      const { restartAfterMs, onTrouble, name } = this.#options
      onTrouble(`${name}: the name is still held; tried again in ${restartAfterMs / 1000} s`, {})
      await new Promise((resolve) => setTimeout(resolve, restartAfterMs))
      return this.#launch()
    }
  }

  #launch(): Promise<Ready> {
    const script = fileURLToPath(new URL('./main.js', import.meta.url))
    const { args, env } = this.#options
    const child = spawn(process.execPath, [script, ...args, '--with-parent'], {
      detached: true,
      env,
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    })
    this.#child = child
    let ready = false
    const words: string[] = []
    eachLine(child.stdout, (line) => this.#options.onLine(line))
    eachLine(child.stderr, (line) => (ready ? this.#options.onComplaint(line) : words.push(line)))
    this.#gone = new Promise((resolve) => child.once('close', () => resolve()))
    return new Promise((resolve, reject) => {
      let code: UserErrorCode | undefined
      child.on('message', (message: MemberMessage) => {
        if (message.unstuck === 'refused') code = message.code as UserErrorCode
        if (message.unstuck !== 'ready') return
        ready = true
        this.#failures = 0
        resolve(message)
      })
      child.once('error', (error) => reject(new Error(`${this.name}: could not be started (${messageOf(error)})`)))
      child.once('close', (exitCode, signal) => {
        this.#child = undefined
        const how = signal ?? `exit code ${exitCode}`
        if (!ready) return reject(refusal(code, words.at(-1) ?? `${this.name}: ended before it was ready (${how})`))
        this.#endedByItself(how, child.pid)
      })
    })
  }

  #endedByItself(how: string, pid: number | undefined): void {
    if (this.#ending) return
    this.#failures += 1
    const waitMs = Math.min(MAX_RESTART_MS, this.#options.restartAfterMs * this.#failures)
    this.#options.onTrouble(`${this.name} ended by itself (${how}); started again in ${waitMs / 1000} s`, {
      member: this.name,
      memberPid: pid,
    })
    this.#restart = setTimeout(() => {
      this.#launch().catch((error: unknown) => this.#endedByItself(messageOf(error), undefined))
    }, waitMs)
  }

  /** @param limitMs how long it may take to end by itself */
  async stop(limitMs: number): Promise<void> {
    this.#ending = true
    clearTimeout(this.#restart)
    this.#child?.kill('SIGTERM')
    if ((await within(this.#gone, limitMs)) !== TIMED_OUT) return
    this.#child?.kill('SIGKILL')
    await within(this.#gone, KILL_LIMIT_MS)
  }

  /** As by a second signal, and soon the end whatever it does. Not by one: two that come at once are one to the kernel. */
  force(limitMs: number): void {
    this.#ending = true
    clearTimeout(this.#restart)
    this.#child?.send({ unstuck: 'force' } satisfies ParentMessage, () => undefined)
    setTimeout(() => this.#child?.kill('SIGKILL'), limitMs).unref()
  }
}

function eachLine(stream: Readable | null, onLine: (line: string) => void): void {
  if (stream) createInterface({ input: stream }).on('line', onLine)
}

/** What it said itself, as our own words. */
function refusal(code: UserErrorCode | undefined, words: string): Error {
  const message = words.replace(/^unstuck: /, '')
  return code === undefined ? new Error(message) : new UserError(code, message)
}
