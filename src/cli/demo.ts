/**
 * What `up --demo` feeds: files to hash and compress, and four saboteurs. It watches the same log lines as the person
 * in front of the terminal; when the three that hang are reported it lets them go, by removing the file that holds
 * them. There is no switch in the product behind this.
 */
import { randomBytes } from 'node:crypto'
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Dispatcher } from '../dispatcher.js'
import { messageOf } from '../kernel/errors.js'
import type { Config } from '../platform/config.js'
import type { Logger } from '../platform/pino-logger.js'
import { duration, type Terminal } from './terminal.js'

const FILES = 2000
const FILES_REDUCED = 200
/** How long the STUCK lines may stand alone before the saboteurs are let go, milliseconds. */
const SHOWN_MS = 3000
/** The saboteurs are let go after this long at the latest, milliseconds. */
const HELD_AT_MOST_MS = 45_000
const POLL_MS = 400
/** After these the closing summary waits no longer for RESUMED lines, milliseconds. */
const RESUMED_WITHIN_MS = 10_000

const HANGING = ['endless-loop', 'lost-reply', 'catastrophic-regex']
const EXITING = 'calls-exit'

export interface DemoOptions {
  /** With the address of the Redis in use. */
  readonly config: Config
  readonly terminal: Terminal
  readonly log: Logger
  /** On the last-resort Redis. */
  readonly reduced: boolean
}

export class Demo {
  readonly #options: DemoOptions
  readonly #dispatcher: Dispatcher
  readonly #folder = join(process.cwd(), '.unstuck', 'demo')
  readonly #run = randomBytes(3).toString('hex')
  readonly #stuck = new Set<string>()
  readonly #resumed = new Set<string>()
  readonly #ended = new AbortController()
  readonly #waiting = new Set<() => void>()
  #working: Promise<void> | undefined

  constructor(options: DemoOptions) {
    this.#options = options
    this.#dispatcher = new Dispatcher(options.config)
  }

  /** Adds the jobs; what follows happens in the background. */
  async start(): Promise<void> {
    // What an earlier demonstration left holding is let go.
    rmSync(this.#folder, { recursive: true, force: true })
    mkdirSync(this.#folder, { recursive: true })
    const hold = join(this.#folder, this.#run)
    writeFileSync(hold, 'while this file exists the saboteurs go on\n')
    const saboteurs = [...HANGING, EXITING].map((name) => ({ name, jobId: this.#idOf(name), data: { hold } }))
    await this.#dispatcher.addBulk('saboteurs', saboteurs)
    const files = filesToHash(this.#options.reduced ? FILES_REDUCED : FILES)
    await this.#dispatcher.addBulk(
      'checksums',
      files.map((path) => ({ data: { path } })),
    )
    this.#working = this.#show(files.length).catch((error: unknown) => {
      if (!this.#ended.signal.aborted) this.#options.log.error({ event: 'demo' }, `demo: ${messageOf(error)}`)
    })
  }

  /** A log line of one of the processes. */
  heard(line: string): void {
    const record = asRecord(line)
    const { event, jobId } = record
    if (record['queue'] !== 'saboteurs' || typeof jobId !== 'string') return
    const name = HANGING.find((one) => this.#idOf(one) === jobId)
    if (name === undefined) return
    if (event === 'stuck') this.#stuck.add(name)
    if (event === 'resumed') this.#resumed.add(name)
    this.#wakeAll()
  }

  async stop(): Promise<void> {
    this.#letGo()
    this.#ended.abort()
    this.#wakeAll()
    await this.#working
    await this.#dispatcher.close()
  }

  #idOf(name: string): string {
    return `${name}-${this.#run}`
  }

  #letGo(): void {
    rmSync(this.#folder, { recursive: true, force: true })
  }

  async #show(files: number): Promise<void> {
    const hashing = this.#showHashing(files)
    await this.#until(() => this.#stuck.size === HANGING.length, HELD_AT_MOST_MS)
    if (this.#stuck.size === HANGING.length) await this.#until(() => false, SHOWN_MS)
    if (this.#ended.signal.aborted) return
    this.#say('the saboteurs are let go')
    this.#letGo()
    await this.#until(() => [...this.#stuck].every((name) => this.#resumed.has(name)), RESUMED_WITHIN_MS)
    const hashed = await hashing
    if (hashed !== undefined) await this.#summarize(hashed)
  }

  /** @returns a sentence for the summary; undefined when the demonstration was stopped before */
  async #showHashing(files: number): Promise<string | undefined> {
    const progress = this.#options.terminal.progress('checksums', files)
    const started = performance.now()
    try {
      for (let left = files; left > 0; ) {
        left = await this.#left()
        progress.update(Math.max(0, files - left))
        if (left > 0) await this.#until(() => false, POLL_MS)
        if (this.#ended.signal.aborted) return undefined
      }
    } finally {
      progress.end()
    }
    const tookMs = performance.now() - started
    return `${files} files hashed and compressed in ${duration(tookMs)} (${Math.round(files / (tookMs / 1000))} jobs/s)`
  }

  async #left(): Promise<number> {
    const { queues } = await this.#dispatcher.status()
    const facts = queues.find(({ queue }) => queue === 'checksums')
    return facts ? facts.waiting + facts.active + facts.delayed : 0
  }

  async #summarize(hashed: string): Promise<void> {
    const { why } = await this.#dispatcher.explain('saboteurs', this.#idOf(EXITING))
    this.#say(hashed)
    this.#say(
      `${this.#stuck.size} of ${HANGING.length} hanging jobs were said STUCK, ${this.#resumed.size} RESUMED; ${EXITING}: ${why}`,
    )
    this.#say('supervision goes on; Ctrl-C stops everything')
  }

  #say(message: string): void {
    this.#options.log.info({ event: 'demo' }, `demo: ${message}`)
  }

  #wakeAll(): void {
    for (const wake of this.#waiting) wake()
  }

  /** Waits until it is so, the limit is reached, or the demonstration is stopped. */
  async #until(isSo: () => boolean, limitMs: number): Promise<void> {
    const deadline = performance.now() + limitMs
    while (!isSo() && !this.#ended.signal.aborted) {
      const leftMs = deadline - performance.now()
      if (leftMs <= 0) return
      await new Promise<void>((resolve) => {
        const wake = () => {
          clearTimeout(timer)
          this.#waiting.delete(wake)
          resolve()
        }
        const timer = setTimeout(wake, leftMs)
        this.#waiting.add(wake)
      })
    }
  }
}

function asRecord(line: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(line)
    return typeof value === 'object' && value !== null ? { ...value } : {}
  } catch {
    return {}
  }
}

/** Real files below a node_modules folder: the working folder's, or the one that this package lives in or has. */
function filesToHash(count: number): string[] {
  const packageRoot = fileURLToPath(new URL('../../', import.meta.url)).replace(/\/$/, '')
  const around = dirname(packageRoot)
  const roots = [
    join(process.cwd(), 'node_modules'),
    join(packageRoot, 'node_modules'),
    ...(basename(around) === 'node_modules' ? [around] : []),
    packageRoot,
  ]
  for (const root of roots) {
    const found = filesBelow(root, count)
    if (found.length > 0) return found
  }
  return []
}

function filesBelow(root: string, count: number): string[] {
  const found: string[] = []
  const folders = [root]
  for (let folder = folders.pop(); folder !== undefined && found.length < count; folder = folders.pop()) {
    for (const entry of entriesOf(folder)) {
      const path = join(folder, entry.name)
      if (entry.isDirectory()) folders.push(path)
      else if (entry.isFile() && found.length < count) found.push(path)
    }
  }
  return found
}

function entriesOf(folder: string) {
  try {
    return readdirSync(folder, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? 1 : -1))
  } catch {
    return []
  }
}
