/** All dashboards, by the name of their file. */
import type { Dashboard } from '@grafana/grafana-foundation-sdk/dashboard'
import { fleet } from './fleet.js'
import { incidents } from './incidents.js'
import { queues } from './queues.js'

export function dashboards(): ReadonlyMap<string, Dashboard> {
  return new Map([
    ['fleet.json', fleet()],
    ['queues.json', queues()],
    ['incidents.json', incidents()],
  ])
}
