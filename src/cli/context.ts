/** What every command gets: the options that all of them take, and from these the config that is in force. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Command } from 'commander'
import { Dispatcher } from '../dispatcher.js'
import type { Config } from '../platform/config.js'
import { loadConfig } from '../platform/config-load.js'
import type { ConfigInput } from '../platform/config-schema.js'
import { Terminal } from './terminal.js'

export interface GlobalOptions {
  readonly config?: string
  readonly redis?: string
  readonly json?: boolean
  readonly color: boolean
}

/** Where `up` keeps the Redis that it brings, in the working folder. */
export const EMBEDDED_FOLDER = join('.unstuck', 'redis')

export interface LoadOptions {
  /** Instead of `--config`. */
  readonly file?: string
  readonly flags?: ConfigInput
  /** False for commands that run no jobs. Default true. */
  readonly handlersMustExist?: boolean
  /** When no Redis is named, take the one that `up` brought in this folder. Default true. */
  readonly findEmbedded?: boolean
}

export class CliContext {
  readonly terminal = new Terminal()
  readonly options: GlobalOptions

  constructor(options: GlobalOptions) {
    this.options = options
    if (!options.color) process.env['NO_COLOR'] = '1'
  }

  get json(): boolean {
    return this.options.json === true
  }

  async config({
    file = this.options.config,
    flags = {},
    handlersMustExist = true,
    findEmbedded = true,
  }: LoadOptions = {}): Promise<Config> {
    const load = (url: string | undefined) =>
      loadConfig({
        cwd: process.cwd(),
        file,
        env: process.env,
        flags: { ...flags, redis: { url } },
        handlersMustExist,
      })
    const config = await load(this.options.redis)
    const embedded = findEmbedded && config.redis.url === undefined ? embeddedUrl() : undefined
    return embedded === undefined ? config : load(embedded)
  }

  /** Runs with a dispatcher and closes it, however it ends. */
  async withDispatcher(config: Config, run: (dispatcher: Dispatcher) => Promise<void>): Promise<void> {
    const dispatcher = new Dispatcher(config)
    try {
      await run(dispatcher)
    } finally {
      await dispatcher.close()
    }
  }

  /** The code that the process ends with, once nothing is left to do. */
  finish(code: number): void {
    process.exitCode = code
  }

  printJson(value: unknown): void {
    this.terminal.line(JSON.stringify(value, undefined, 2))
  }
}

/** The context of a command that runs, from its own and the general options. */
export function contextOf(command: Command): CliContext {
  return new CliContext(command.optsWithGlobals<GlobalOptions>())
}

function embeddedUrl(): string | undefined {
  const file = join(process.cwd(), EMBEDDED_FOLDER, 'port')
  const port = existsSync(file) ? readFileSync(file, 'utf8').trim() : ''
  return /^\d+$/.test(port) ? `redis://127.0.0.1:${port}` : undefined
}
