/** What the sentinel itself can say of its supervisor in Prometheus, whatever the main thread does. From the board, no job ids. */
import { Gauge, Registry } from 'prom-client'
import type { Beat } from '../heartbeat/beat.js'
import { lagsOf } from '../heartbeat/beat-lags.js'

export interface SentinelMetrics {
  readonly registry: Registry
  /** @param textAgeMs age of what the main thread last gave of its own metrics; undefined when it never did */
  show(beat: Beat, textAgeMs: number | undefined): Promise<string>
}

export function sentinelMetrics(): SentinelMetrics {
  const registry = new Registry()
  const registers = [registry]
  const mainAge = new Gauge({
    name: 'unstuck_supervisor_main_age_seconds',
    help: 'How long ago the main event loop last turned',
    registers,
  })
  const textAge = new Gauge({
    name: 'unstuck_supervisor_metrics_age_seconds',
    help: 'Age of the other series of this process: they stand still while its main event loop does',
    registers,
  })
  const ofLoop = { labelNames: ['loop', 'queue'], registers }
  const loopAge = new Gauge({
    name: 'unstuck_supervisor_loop_age_seconds',
    help: 'How long a loop has made no progress, past what it may block for; 0 while it rests on purpose',
    ...ofLoop,
  })
  const loopStale = new Gauge({
    name: 'unstuck_supervisor_loop_stale',
    help: '1 while a loop is past its threshold',
    ...ofLoop,
  })
  return {
    registry,
    show(beat, textAgeMs) {
      mainAge.set(beat.main.ageMs / 1000)
      textAge.set((textAgeMs ?? 0) / 1000)
      // A queue that is not served any more leaves no series behind.
      loopAge.reset()
      loopStale.reset()
      for (const [loop, queue, lagMs, stale] of lagsOf(beat)) {
        loopAge.set({ loop, queue }, lagMs / 1000)
        loopStale.set({ loop, queue }, stale)
      }
      return registry.metrics()
    },
  }
}
