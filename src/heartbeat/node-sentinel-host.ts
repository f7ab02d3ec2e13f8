/**
 * The main thread's hold on its sentinel: starts the thread, starts it again when it dies, and passes on what it says.
 * A process without a sentinel looks dead to the watchdogs however well it works, so the thread is never given up.
 */
import { hostname } from 'node:os'
import { Worker } from 'node:worker_threads'
import { messageOf, UserError } from '../kernel/errors.js'
import type { Config } from '../platform/config.js'
import { VERSION } from '../platform/version.js'
import type {
  FromSentinel,
  SentinelData,
  SentinelIdentity,
  Served,
  SupervisorOrder,
  TerminateOrder,
  ToSentinel,
} from './sentinel-protocol.js'

export interface SentinelHostOptions {
  readonly data: SentinelData
  /** It must not keep a process alive that has nothing else to do. Default false. */
  readonly unref?: boolean
  /** Gives the start up. */
  readonly signal?: AbortSignal
  /** A job of an `onStuck: terminate` queue is to be ended with its thread. */
  readonly onTerminate: (order: TerminateOrder) => void
  /** Somebody outside wants something of this supervisor. */
  readonly onOrder: (order: SupervisorOrder) => void
  /** A newer incarnation bears the name: this process must stop. */
  readonly onReplaced: () => void
  /** Something went wrong in the sentinel; it goes on or is started again. */
  readonly onError: (message: string) => void
  /** The main thread's own metrics. Default: none. */
  readonly metrics?: () => Promise<string>
}

/** What every process of ours says of itself, whatever it serves. */
export function ownIdentity(config: Config, supervisor: string, incarnation: string): Omit<SentinelIdentity, 'queues'> {
  const { group } = config.supervisor
  return {
    supervisor,
    incarnation,
    ...(group === undefined ? {} : { group }),
    host: hostname(),
    pid: process.pid,
    version: VERSION,
    dumps: true,
    heartbeat: config.heartbeat,
    loops: config.loops,
  }
}

/** Enough for thousands of running jobs; what leaks must not take the process with it, megabytes. */
const HEAP_MB = 128
const RESTART_MS = 1000
const SENTINEL = new URL('../processes/sentinel-thread.js', import.meta.url)

/**
 * Starts the sentinel thread.
 * @returns once the name is registered and beats are on their way; waits for a Redis that is away
 * @throws UserError NAME_TAKEN when a live process holds the name, PORT_IN_USE
 */
export async function startSentinel(options: SentinelHostOptions): Promise<SentinelHost> {
  const host = new SentinelHost(options)
  const giveUp = () => void host.terminate()
  options.signal?.addEventListener('abort', giveUp, { once: true })
  try {
    await host.started
    options.signal?.removeEventListener('abort', giveUp)
  } catch (error) {
    await host.terminate()
    throw error
  }
  return host
}

/** Numbers tried after the host name when no name is configured. */
const MAX_NAMES = 1000

/**
 * As `startSentinel`, under the configured name, or the first free number after the host's name.
 * @param optionsFor what it is started with under a name; asked for again when that is taken
 */
export async function startNamedSentinel(
  configured: string | undefined,
  optionsFor: (name: string) => SentinelHostOptions,
): Promise<SentinelHost> {
  const base =
    hostname()
      .replace(/[^A-Za-z0-9._-]/g, '-')
      .slice(0, 48) || 'supervisor'
  for (let number = 1; ; number += 1) {
    try {
      return await startSentinel(optionsFor(configured ?? `${base}-${number}`))
    } catch (error) {
      const taken = error instanceof UserError && error.code === 'NAME_TAKEN'
      if (!taken || configured !== undefined || number >= MAX_NAMES) throw error
    }
  }
}

export class SentinelHost {
  readonly #options: SentinelHostOptions
  #served: Served | undefined
  #port: number | undefined
  #worker: Worker | undefined
  #ready = false
  #ending = false
  #restart: NodeJS.Timeout | undefined
  #resolveStart: () => void = () => undefined
  #rejectStart: (error: Error) => void = () => undefined
  #gone: (said: boolean) => void = () => undefined
  /** Settles once: registered, or refused. */
  readonly started: Promise<void>

  constructor(options: SentinelHostOptions) {
    this.#options = options
    this.started = new Promise((resolve, reject) => {
      this.#resolveStart = resolve
      this.#rejectStart = reject
    })
    this.#launch()
  }

  /** Where the thread serves HTTP, once started. The same for one that takes its place. */
  get port(): number | undefined {
    return this.#port
  }

  /** Queues and loops of a board with a reserve came or went; a sentinel that is started again knows them too. */
  serve(served: Served): void {
    this.#served = served
    this.#worker?.postMessage({ type: 'serve', ...served } satisfies ToSentinel)
  }

  /** Ends the beats so that nobody calls this process dead. @returns false when the store did not learn of it in time */
  async goodbye(timeoutMs: number): Promise<boolean> {
    this.#ending = true
    clearTimeout(this.#restart)
    if (!this.#worker) return false
    let timer: NodeJS.Timeout | undefined
    const said = await new Promise<boolean>((resolve) => {
      this.#gone = resolve
      timer = setTimeout(() => resolve(false), timeoutMs)
      this.#worker?.postMessage({ type: 'goodbye' } satisfies ToSentinel)
    })
    clearTimeout(timer)
    return said
  }

  /** Ends the thread. Without a goodbye before, the watchdogs will call the process dead. May be called twice. */
  async terminate(): Promise<void> {
    this.#ending = true
    clearTimeout(this.#restart)
    await this.#worker?.terminate()
    this.#rejectStart(new Error('the sentinel thread was ended before it was ready'))
  }

  #launch(): void {
    const worker = new Worker(SENTINEL, {
      workerData: this.#data(),
      execArgv: [],
      name: 'unstuck-sentinel',
      resourceLimits: { maxOldGenerationSizeMb: HEAP_MB },
    })
    this.#worker = worker
    if (this.#options.unref) worker.unref()
    worker.on('message', (message: FromSentinel) => this.#heard(message))
    worker.on('error', (error) => this.#failed(error))
    worker.on('exit', (code) => this.#exited(code))
  }

  /** One that takes another's place serves where that one did, and what is served now. */
  #data(): SentinelData {
    const { data: first } = this.#options
    const data = this.#served ? withServed(first, this.#served) : first
    return data.http && this.#port !== undefined ? { ...data, http: { ...data.http, port: this.#port, again: true } } : data
  }

  #heard(message: FromSentinel): void {
    switch (message.type) {
      case 'ready':
        this.#ready = true
        this.#resolveStart()
        break
      case 'taken':
        this.#taken(message.host, message.pid)
        break
      case 'replaced':
        this.#options.onReplaced()
        break
      case 'terminate':
        this.#options.onTerminate(message)
        break
      case 'order':
        this.#options.onOrder(message.order)
        break
      case 'error':
        this.#options.onError(message.message)
        break
      case 'listening':
        this.#port = message.port
        break
      case 'not_listening':
        this.#rejectStart(message.code ? new UserError(message.code, message.message) : new Error(message.message))
        break
      case 'metrics_wanted':
        void this.#giveMetrics()
        break
      case 'gone':
        this.#gone(message.said)
        break
    }
  }

  async #giveMetrics(): Promise<void> {
    const { metrics = async () => '', onError } = this.#options
    const text = await metrics().catch((error: unknown) => {
      onError(`metrics: ${messageOf(error)}`)
      return ''
    })
    this.#worker?.postMessage({ type: 'metrics', text } satisfies ToSentinel)
  }

  #taken(host: string, pid: string): void {
    const name = this.#options.data.supervisor
    const message = `supervisor name "${name}" is held by a live process (host ${host}, pid ${pid}); choose another --name or stop that one`
    // A sentinel that was started again and finds another there: we were taken for dead, and replaced.
    if (this.#ready) this.#options.onReplaced()
    else this.#rejectStart(new UserError('NAME_TAKEN', message))
  }

  #failed(error: unknown): void {
    if (!this.#ready) this.#rejectStart(error instanceof Error ? error : new Error(messageOf(error)))
    this.#options.onError(`the sentinel thread failed: ${messageOf(error)}`)
  }

  #exited(code: number): void {
    this.#worker = undefined
    this.#gone(false)
    if (this.#ending) return
    if (!this.#ready) {
      this.#rejectStart(new Error(`the sentinel thread ended with code ${code} before it was ready`))
      return
    }
    this.#options.onError(`the sentinel thread ended with code ${code}; it is started again`)
    this.#restart = setTimeout(() => this.#launch(), RESTART_MS)
  }
}

function withServed(data: SentinelData, { layout, queues }: Served): SentinelData {
  return { ...data, queues, handle: { ...data.handle, layout } }
}
