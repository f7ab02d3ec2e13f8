/**
 * What the sentinel thread shows to those who watch its process from the same host: probes and scrapers over HTTP, systemd.
 * All of them hear the same verdict (`liveness.ts`), and none of them needs the main thread.
 */
import type { Beat } from '../heartbeat/beat.js'
import { Liveness } from '../heartbeat/liveness.js'
import type { Pause } from '../heartbeat/pauses.js'
import type { BeatSink } from '../heartbeat/sentinel.js'
import type { FromSentinel, SentinelData } from '../heartbeat/sentinel-protocol.js'
import { systemClock } from '../platform/system-clock.js'
import { type Systemd, systemdOf } from './node-systemd-notify.js'
import { SentinelHttp } from './sentinel-http.js'

type Sample = (seq: number, now: number, pauses: readonly Pause[]) => Beat

export interface OutlookOptions {
  readonly data: Pick<SentinelData, 'heartbeat' | 'http' | 'systemd'>
  /** Reads the board. */
  readonly sample: Sample
  readonly post: (message: FromSentinel) => void
  readonly onError: (error: unknown) => void
}

/** systemd is told that all is well at half of its patience; until then it is looked again so many times. */
const LOOKS_IN_PATIENCE = 20
const SHORTEST_LOOK_MS = 50
const LONGEST_LOOK_MS = 1000

export class Outlook {
  readonly #sample: Sample
  readonly #liveness: Liveness
  readonly #http: SentinelHttp | undefined
  #pauses: readonly Pause[] = []
  #sampled = false
  /** False: the port is another's, and this process must not begin. */
  readonly listening: Promise<boolean>

  constructor({ data, sample, post, onError }: OutlookOptions) {
    this.#sample = sample
    this.#liveness = new Liveness(data.heartbeat.timeoutMs)
    const { monotonicMs } = systemClock
    if (data.http) {
      this.#http = new SentinelHttp({
        address: data.http,
        sample: () => sample(0, monotonicMs(), this.#pauses),
        problem: () => this.#problem(),
        ...{ post, monotonicMs, onError },
      })
    }
    this.listening = this.#http?.listen() ?? Promise.resolve(true)
    if (data.systemd) this.#tellSystemd(systemdOf({ env: process.env, monotonicMs, onError }))
  }

  /** For the sentinel: its own looks are what the verdict goes by. */
  readonly sample: Sample = (seq, now, pauses) => {
    this.#pauses = pauses
    this.#sampled = true
    return this.#liveness.sampled(this.#sample(seq, now, pauses))
  }

  /** For the sentinel: sees which beats reach the store. */
  through(sink: BeatSink): BeatSink {
    return {
      ...sink,
      beat: async (beat, late, hint) => {
        const answer = await sink.beat(beat, late, hint)
        if (answer.accepted) this.#liveness.accepted(systemClock.monotonicMs())
        return answer
      },
    }
  }

  /** The main thread's own metrics. */
  told(text: string): void {
    this.#http?.told(text)
  }

  /** Until the sentinel has a name, it does not look; somebody who asks must not be told that all is well for that. */
  #problem(): string | undefined {
    const now = systemClock.monotonicMs()
    if (!this.#sampled) this.#liveness.sampled(this.#sample(0, now, []))
    return this.#liveness.problem(now)
  }

  #tellSystemd(systemd: Systemd): void {
    if (systemd.watchdogMs === undefined) return
    const lookMs = Math.min(LONGEST_LOOK_MS, Math.max(SHORTEST_LOOK_MS, systemd.watchdogMs / LOOKS_IN_PATIENCE))
    setInterval(() => {
      if (this.#problem() === undefined) systemd.alive()
    }, lookMs)
  }
}
