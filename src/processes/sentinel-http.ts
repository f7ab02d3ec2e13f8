/**
 * The supervisor's HTTP server in the sentinel thread: it answers while the main thread hangs. What is true of the beat it
 * says itself; the rest of /metrics lives in the main thread, is asked for there, and stands still while that does not answer.
 */
import type { Beat } from '../heartbeat/beat.js'
import type { FromSentinel, SentinelAddress } from '../heartbeat/sentinel-protocol.js'
import { startSupervisorServer } from '../http/supervisor-server.js'
import { messageOf, UserError } from '../kernel/errors.js'
import { within } from '../kernel/within.js'
import { sentinelMetrics } from './prom-sentinel-metrics.js'

/** How long a scrape waits for the main thread, milliseconds: many turns of a healthy one, and no scraper gives up so soon. */
const MAIN_ANSWERS_WITHIN_MS = 200
/** Between tries to listen again on the port that a former sentinel thread of this process had, milliseconds. */
const RETRY_MS = 1000

export interface SentinelHttpOptions {
  readonly address: SentinelAddress
  /** The board now. */
  readonly sample: () => Beat
  /** Why this process ought to be started anew. */
  readonly problem: () => string | undefined
  readonly post: (message: FromSentinel) => void
  readonly monotonicMs: () => number
  readonly onError: (error: unknown) => void
}

export class SentinelHttp {
  readonly #options: SentinelHttpOptions
  readonly #metrics = sentinelMetrics()
  #listens = false
  /** What the main thread last gave, and when. */
  #main: { readonly text: string; readonly at: number } | undefined
  /** A question is out: a main thread that hangs is not asked again and again. */
  #answered: Promise<void> | undefined
  #onAnswer: () => void = () => undefined

  constructor(options: SentinelHttpOptions) {
    this.#options = options
  }

  /**
   * Listens and tells main where, or that it cannot. In the place of a thread that died it goes on trying, beside the beats.
   * @returns whether the sentinel may go on
   */
  async listen(): Promise<boolean> {
    const { again } = this.#options.address
    if (again) {
      void this.#listenAgain()
      return true
    }
    try {
      await this.#listen()
      return true
    } catch (error) {
      const code = error instanceof UserError ? error.code : undefined
      this.#options.post({ type: 'not_listening', code, message: messageOf(error) })
      return false
    }
  }

  /** The main thread's metrics. @param text empty when they could not be made */
  told(text: string): void {
    if (text !== '') this.#main = { text, at: this.#options.monotonicMs() }
    this.#answered = undefined
    this.#onAnswer()
  }

  async #listen(): Promise<void> {
    const { address, problem, sample, post } = this.#options
    const port = await startSupervisorServer({
      host: address.host,
      port: address.port,
      problem,
      isReady: () => sample().state === 'running',
      metrics: () => this.#text(),
    })
    this.#listens = true
    post({ type: 'listening', port })
  }

  async #listenAgain(): Promise<void> {
    while (!this.#listens) {
      try {
        await this.#listen()
      } catch (error) {
        this.#options.onError(error)
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS))
      }
    }
  }

  async #text(): Promise<string> {
    const { post, sample, monotonicMs } = this.#options
    if (!this.#answered) {
      this.#answered = new Promise((resolve) => {
        this.#onAnswer = resolve
      })
      post({ type: 'metrics_wanted' })
    }
    await within(this.#answered, MAIN_ANSWERS_WITHIN_MS)
    const own = await this.#metrics.show(sample(), this.#main && monotonicMs() - this.#main.at)
    return `${this.#main?.text ?? ''}${own}`
  }
}
