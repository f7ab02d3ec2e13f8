/** A supervisor that does not exist: it beats, through the real writer, what a test last said of it. */
import type { Redis } from 'ioredis'
import { type Beat, lateIn } from '../../src/heartbeat/beat.js'
import { redisBeatWriter } from '../../src/heartbeat/redis-heartbeats.js'
import { beatOf } from './beats.js'

export interface FakeSupervisor {
  /** From now on it beats this; the first at once and with a hint. */
  become(beat: Beat): Promise<void>
  /** Beats now. */
  kick(): Promise<void>
  /** Silence without a goodbye. */
  stopBeating(): void
}

export interface FakeSupervisorOptions {
  readonly first?: Beat
  readonly incarnation?: string
  readonly timeoutMs: number
  readonly everyMs?: number
  /** An order (JSON) that a beat brought back. */
  readonly onOrder?: (order: string) => void
}

/** It is called `a`, and serves the queue `img`. */
export async function startFakeSupervisor(redis: Redis, options: FakeSupervisorOptions): Promise<FakeSupervisor> {
  const { first = beatOf(), incarnation = 'a-1', timeoutMs, everyMs = 100, onOrder = () => undefined } = options
  const identity = { prefix: '{unstuck}', supervisor: 'a', incarnation, host: 'h', pid: 1 }
  const writer = redisBeatWriter(redis, { ...identity, timeoutMs, queues: ['img'] })
  let beat = first
  let seq = 0
  await writer.register()
  const send = async (hint: boolean) => {
    const { orders } = await writer.beat({ ...beat, seq: ++seq }, lateIn(beat).length > 0, hint)
    orders.forEach(onOrder)
  }
  await send(true)
  const timer = setInterval(() => void send(false).catch(() => undefined), everyMs)
  return {
    stopBeating: () => clearInterval(timer),
    kick: () => send(false),
    async become(next) {
      beat = next
      await send(true)
    },
  }
}
