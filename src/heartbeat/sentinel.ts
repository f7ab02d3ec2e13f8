/**
 * The sentinel: watches the board and tells the store. It runs in a thread of its own, so that it goes on beating,
 * and telling the truth, while the main thread and every task thread hang.
 *
 *   idle ──start──▶ registering ──▶ beating ──stop──▶ goodbye ──▶ stopped
 *                        │              └── the store knows a newer incarnation: says `replaced`, is silent from then on
 *                        └── the name is held by a live process: says `taken`, is silent from then on
 *
 * It beats every interval, and at once when something falls late or moves again. Sampling never waits for the store: a
 * beat is out or it is not, and when it comes back the newest sample goes, never an old one. What cannot be sent is
 * dropped; the next beat tells the truth. It never judges for others, never kills (it orders, main acts), never throws.
 */
import { messageOf } from '../kernel/errors.js'
import { Service } from '../kernel/service.js'
import type { Beat, Late } from './beat.js'
import { lateIn, nextLateInMs } from './beat.js'
import { readOrder } from './orders.js'
import { type Pause, withPause } from './pauses.js'
import type { FromSentinel, TerminateOrder } from './sentinel-protocol.js'
import { Terminations } from './terminations.js'

export interface BeatAnswer {
  /** False when a newer incarnation bears the name. */
  readonly accepted: boolean
  /** As they were sent (JSON), the oldest first; taken out of the store. */
  readonly orders: readonly string[]
}

/** Where beats go, and where orders come from. Every call may hang; the sentinel bounds them itself. */
export interface BeatSink {
  register(): Promise<{ readonly taken: true; readonly host: string; readonly pid: string } | { readonly taken: false }>
  beat(beat: Beat, late: boolean, hint: boolean): Promise<BeatAnswer>
  goodbye(): Promise<void>
}

export interface SentinelPorts {
  /** Reads the board. */
  sample(seq: number, now: number, pauses: readonly Pause[]): Beat
  readonly sink: BeatSink
  /** A call to the sink did not come back in time: its connection is suspect. */
  reconnect(): void
  post(message: FromSentinel): void
  /** An order that is the sentinel's own to obey. @returns false when it is not */
  obey?(order: string): boolean
  /** Before a thread is ended for what it does: to see what that is. Never rejects, and ends soon. */
  witness?(order: TerminateOrder): Promise<void>
  monotonicMs(): number
  /** @returns what takes the timer back */
  timer(run: () => void, ms: number): () => void
}

export interface SentinelOptions {
  /** Orders that were meant for another one are dropped. */
  readonly incarnation: string
  readonly intervalMs: number
  /** How long the store may take for one call before the beat counts as lost, milliseconds. */
  readonly callTimeoutMs: number
}

/** How often it looks while something is late, so that a recovery is seen at once, milliseconds. */
const LATE_LOOK_MS = 50
/** How long a goodbye may take, milliseconds. */
export const GOODBYE_MS = 2000
const RETRY_MS = 100
/** The same trouble is told so often at most, milliseconds. */
const ERROR_EVERY_MS = 60_000

export class Sentinel extends Service {
  readonly #ports: SentinelPorts
  readonly #options: SentinelOptions
  readonly #terminations = new Terminations()
  readonly #told = new Map<string, number>()
  #registered = false
  /** Taken or replaced: the name is another's. */
  #silenced = false
  #seq = 0
  #pauses: readonly Pause[] = []
  #awakeAt = 0
  #dueAt = Number.POSITIVE_INFINITY
  #cancelTimer: () => void = () => undefined
  #nextBeatAt = 0
  /** What was late at the last look, as one text. */
  #lateKey = ''
  /** A change that no accepted beat has told yet. */
  #untold = false
  /** After a beat that failed: what is untold waits until then, so that no storm comes of it. */
  #quietUntil = 0
  #registering: Promise<void> | undefined
  #sending: Promise<void> | undefined
  /** A beat fell due while another was out. */
  #again = false
  #said = false

  constructor(ports: SentinelPorts, options: SentinelOptions) {
    super()
    this.#ports = ports
    this.#options = options
  }

  /** After a stop: whether the goodbye reached the store. */
  get saidGoodbye(): boolean {
    return this.#said
  }

  protected override onStart(): void {
    this.#registering = this.#register()
  }

  /** Beats now, whatever the interval says: the connection has just come back. */
  kick(): void {
    if (!this.#registered || !this.#active()) return
    this.#nextBeatAt = this.#ports.monotonicMs()
    this.#look()
  }

  #active(): boolean {
    return !this.#silenced && this.state !== 'stopping' && this.state !== 'stopped'
  }

  async #register(): Promise<void> {
    try {
      const reply = await this.#bounded(this.#ports.sink.register())
      if (reply.taken) {
        this.#silenced = true
        this.#ports.post({ type: 'taken', host: reply.host, pid: reply.pid })
        return
      }
      this.#registered = true
      if (!this.#active()) return
      this.#ports.post({ type: 'ready' })
      this.#nextBeatAt = this.#ports.monotonicMs()
      this.#look()
    } catch (error) {
      this.tell(error)
      if (this.#active()) this.#arm(RETRY_MS, () => this.onStart())
    }
  }

  // ---- looking

  /** One look at the board, a beat if one is due, and the time of the next look. */
  #look(): void {
    if (!this.#active()) return
    let wait = this.#options.intervalMs
    try {
      const now = this.#ports.monotonicMs()
      this.#pauses = withPause(this.#pauses, this.#awakeAt, this.#dueAt, now)
      const beat = this.#ports.sample(this.#seq + 1, now, this.#pauses)
      const late = lateIn(beat)
      this.#compare(beat, late)
      const telling = this.#untold && now >= this.#quietUntil
      if (telling || now >= this.#nextBeatAt) this.#offer(beat, late, now)
      wait = Math.min(this.#nextBeatAt - now, nextLateInMs(beat) + 1, late.length > 0 || this.#untold ? LATE_LOOK_MS : wait)
    } catch (error) {
      this.tell(error)
    }
    this.#arm(Math.max(1, wait), () => this.#look())
  }

  #compare(beat: Beat, late: readonly Late[]): void {
    const key = late
      .map(({ subject, cause }) => `${subject} ${cause}`)
      .sort()
      .join('\n')
    if (key !== this.#lateKey) this.#untold = true
    this.#lateKey = key
    this.#terminations.sampled(beat, late)
  }

  #arm(ms: number, run: () => void): void {
    this.#cancelTimer()
    this.#awakeAt = this.#ports.monotonicMs()
    this.#dueAt = this.#awakeAt + ms
    this.#cancelTimer = this.#ports.timer(run, ms)
  }

  // ---- telling

  /** Sends the beat unless one is out; then the look that follows its return sends what is true by then. */
  #offer(beat: Beat, late: readonly Late[], now: number): void {
    this.#nextBeatAt = now + this.#options.intervalMs
    if (this.#sending) {
      this.#again = true
      return
    }
    const hint = this.#untold
    this.#untold = false
    this.#seq += 1
    this.#sending = this.#send(beat, late, hint).finally(() => {
      this.#sending = undefined
      if (!this.#again) return
      this.#again = false
      this.kick()
    })
  }

  async #send(beat: Beat, late: readonly Late[], hint: boolean): Promise<void> {
    try {
      const answer = this.#ports.sink.beat(beat, late.length > 0, hint)
      // Also those of an answer that comes too late to count: nobody else has them any more.
      const { accepted } = await this.#bounded(answer.then((one) => this.#passOn(one)))
      if (accepted) this.#order(beat, late)
      else this.#replaced()
    } catch (error) {
      this.#terminations.refused()
      this.#untold ||= hint
      this.#quietUntil = this.#ports.monotonicMs() + RETRY_MS
      this.tell(error)
    }
  }

  #order(beat: Beat, late: readonly Late[]): void {
    const { witness, post, monotonicMs } = this.#ports
    for (const order of this.#terminations.accepted(beat, late, monotonicMs())) {
      void (witness?.(order) ?? Promise.resolve()).then(() => post({ type: 'terminate', ...order }))
    }
  }

  #passOn(answer: BeatAnswer): BeatAnswer {
    for (const text of answer.orders) {
      if (this.#ports.obey?.(text)) continue
      const read = readOrder(text, this.#options.incarnation)
      if ('order' in read) this.#ports.post({ type: 'order', order: read.order })
      else this.tell(read.refused)
    }
    return answer
  }

  #replaced(): void {
    if (this.#silenced) return
    this.#silenced = true
    this.#cancelTimer()
    this.#ports.post({ type: 'replaced' })
  }

  /** No call to the store may hang the sentinel, whatever its client promises. */
  async #bounded<T>(call: Promise<T>): Promise<T> {
    const { callTimeoutMs } = this.#options
    let cancel: () => void = () => undefined
    const limit = new Promise<never>((_, reject) => {
      cancel = this.#ports.timer(() => {
        this.#ports.reconnect()
        reject(new Error(`the store did not answer in ${callTimeoutMs} ms`))
      }, callTimeoutMs)
    })
    try {
      return await Promise.race([call, limit])
    } finally {
      cancel()
    }
  }

  /** Tells main of a trouble, the same one at most once a minute. */
  tell(error: unknown): void {
    const message = messageOf(error)
    const now = this.#ports.monotonicMs()
    for (const [old, at] of this.#told) {
      if (now - at >= ERROR_EVERY_MS) this.#told.delete(old)
    }
    if (this.#told.has(message)) return
    this.#told.set(message, now)
    this.#ports.post({ type: 'error', message })
  }

  // ---- the end

  protected override async onStop(): Promise<void> {
    this.#cancelTimer()
    let cancel: () => void = () => undefined
    const end = new Promise<void>((resolve) => {
      cancel = this.#ports.timer(resolve, GOODBYE_MS)
    })
    let over = false
    await Promise.race([this.#sayGoodbye(() => over), end])
    over = true
    cancel()
  }

  async #sayGoodbye(over: () => boolean): Promise<void> {
    // A beat that arrives after the goodbye would take it back.
    await this.#registering
    await this.#sending
    while (this.#registered && !this.#silenced && !over()) {
      try {
        await this.#bounded(this.#ports.sink.goodbye())
        this.#said = true
        return
      } catch (error) {
        this.tell(error)
        await new Promise<void>((resolve) => this.#ports.timer(resolve, RETRY_MS))
      }
    }
  }
}
