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
    try {
      await this.onStart()
    } catch (error) {
      this.#starting = undefined
      await this.stop()
      throw error
    }
    if (this.#state === 'starting') this.#state = 'running'
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
    const starting = this.#starting
    this.#state = 'stopping'
    await starting?.catch(() => undefined)
    try {
      await this.onStop()
    } finally {
      this.#state = 'stopped'
    }
  }
}
