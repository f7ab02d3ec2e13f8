/** What every process shows of itself in Prometheus. Each process has a registry of its own, never the global one. */
import { collectDefaultMetrics, Gauge, Registry } from 'prom-client'

export interface ProcessMetricsOptions {
  /** `watchdog` or `supervisor`. */
  readonly role: string
  readonly version: string
}

/** prom-client's gauges that are named like counters: `promtool check metrics` refuses them, and the sums by type say the same. */
const MISNAMED = ['nodejs_active_handles_total', 'nodejs_active_requests_total', 'nodejs_active_resources_total']

/** A registry with `unstuck_up`, `unstuck_build_info` and prom-client's process metrics. */
export function processRegistry({ role, version }: ProcessMetricsOptions): Registry {
  const registry = new Registry()
  const registers = [registry]
  collectDefaultMetrics({ register: registry })
  for (const name of MISNAMED) registry.removeSingleMetric(name)
  new Gauge({ name: 'unstuck_up', help: 'This process serves metrics', labelNames: ['role'], registers }).set({ role }, 1)
  const labelNames = ['version', 'node']
  const info = new Gauge({
    name: 'unstuck_build_info',
    help: 'Version of unstuck and of Node; always 1',
    labelNames,
    registers,
  })
  info.set({ version, node: process.versions.node }, 1)
  return registry
}
