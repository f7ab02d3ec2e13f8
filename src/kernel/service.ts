/**
 * One lifecycle for everything long-lived. Start and stop may be called in any order, any number of times and at once:
 *
 *   idle ──start──▶ starting ──▶ running ──stop──▶ stopping ──▶ stopped
 *                      └──stop: waits for the start, then stops what was started──▶ stopped
 *
 * A start that throws undoes what it had begun, and leaves the service stopped.
 */
export type ServiceState = 'idle' | 'starting' | 'running' | 'stopping' | 'stopped'

export abstract class Service {
  #state: ServiceState = 'idle'
  #starting: Promise<void> | undefined
  /** The run of `onStart` alone. */
  #begun: Promise<void> | undefined
  #stopping: Promise<void> | undefined

  get state(): ServiceState {
    return this.#state
  }

  /** Does the work of starting. What it began before it throws is undone by `onStop`. */
  protected abstract onStart(): Promise<void> | void
  /** Stops what runs and waits for it. Called once; must cope with a start that ended half-way. */
  protected abstract onStop(): Promise<void> | void

  start(): Promise<void> {
    if (this.#state === 'stopping' || this.#state === 'stopped') {
      return Promise.reject(new Error(`${this.constructor.name}: cannot be started again after a stop`))
    }
    this.#starting ??= this.#start()
    return this.#starting
  }

  async #start(): Promise<void> {
    this.#state = 'starting'
    this.#begun = this.#begin()
    try {
      await this.#begun
    } catch (error) {
      // Whoever stops hears what went wrong with the stop; whoever started, why the start failed.
      await this.stop().catch(() => undefined)
      throw error
    }
    if (this.#state === 'starting') this.#state = 'running'
  }

  async #begin(): Promise<void> {
    await this.onStart()
  }

  stop(): Promise<void> {
    this.#stopping ??= this.#stop()
    return this.#stopping
  }

  async #stop(): Promise<void> {
    if (this.#state === 'idle') {
      this.#state = 'stopped'
      return
    }
    this.#state = 'stopping'
    // Not for the whole of start(): a start that fails waits for this stop.
    await this.#begun?.catch(() => undefined)
    try {
      await this.onStop()
    } finally {
      this.#state = 'stopped'
    }
  }
}
