/** What is wrong with a fleet, in a sentence each, for `unstuck status` and its exit code. Pure. */
import type { FleetView } from './read-model.js'

export interface WatchdogPresence {
  readonly id: string
  /** Since its last cycle, by the store's clock, milliseconds. */
  readonly silentMs: number
}

/** A watchdog looks at least once a second; one that did not for so long is not there, milliseconds. */
const WATCHDOG_SILENT_MS = 10_000

export function problemsOf({ supervisors, queues, incidents }: FleetView, watchdogs: readonly WatchdogPresence[]): string[] {
  const reported = new Set(incidents.map(({ subject }) => subject))
  const problems = incidents.map(({ subject, cause }) => `${subject}: ${cause}`)
  for (const { name, state } of supervisors) {
    if ((state === 'dead' || state === 'unreadable') && !reported.has(`supervisor:${name}`))
      problems.push(`supervisor:${name}: ${state}`)
  }
  for (const { queue, exhausted, breakersOpen } of queues) {
    if (exhausted > 0) problems.push(`queue:${queue}: ${exhausted} exhausted job${exhausted === 1 ? '' : 's'}`)
    for (const group of breakersOpen)
      problems.push(`queue:${queue}: breaker open for ${group === '' ? 'jobs without a group' : `group ${group}`}`)
  }
  if (!watchdogs.some(({ silentMs }) => silentMs < WATCHDOG_SILENT_MS))
    problems.push('watchdog: none is running, so nobody judges the fleet')
  return problems
}
