/**
 * The main thread's hold on its sentinel: starts the thread, starts it again when it dies, and passes on what it says.
 * A process without a sentinel looks dead to the watchdogs however well it works, so the thread is never given up.
 */
import { Worker } from 'node:worker_threads'
import type { FromSentinel, SentinelData, SupervisorOrder, TerminateOrder, ToSentinel } from '../heartbeat/sentinel-protocol.js'
import { messageOf, UserError } from '../kernel/errors.js'

export interface SentinelHostOptions {
  readonly data: SentinelData
  /** A job of an `onStuck: terminate` queue is to be ended with its thread. */
  readonly onTerminate: (order: TerminateOrder) => void
  /** Somebody outside wants something of this supervisor. */
  readonly onOrder: (order: SupervisorOrder) => void
  /** A newer incarnation bears the name: this process must stop. */
  readonly onReplaced: () => void
  /** Something went wrong in the sentinel; it goes on or is started again. */
  readonly onError: (message: string) => void
}

/** Enough for thousands of running jobs; what leaks must not take the process with it, megabytes. */
const HEAP_MB = 128
const RESTART_MS = 1000

/**
 * Starts the sentinel thread.
 * @returns once the name is registered and beats are on their way; waits for a Redis that is away
 * @throws UserError NAME_TAKEN when a live process holds the name
 */
export async function startSentinel(options: SentinelHostOptions): Promise<SentinelHost> {
  const host = new SentinelHost(options)
  try {
    await host.started
  } catch (error) {
    await host.terminate()
    throw error
  }
  return host
}

export class SentinelHost {
  readonly #options: SentinelHostOptions
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
  }

  #launch(): void {
    const worker = new Worker(new URL('./sentinel-thread.js', import.meta.url), {
      workerData: this.#options.data,
      execArgv: [],
      name: 'unstuck-sentinel',
      resourceLimits: { maxOldGenerationSizeMb: HEAP_MB },
    })
    this.#worker = worker
    worker.on('message', (message: FromSentinel) => this.#heard(message))
    worker.on('error', (error) => this.#failed(error))
    worker.on('exit', (code) => this.#exited(code))
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
      case 'gone':
        this.#gone(message.said)
        break
    }
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
