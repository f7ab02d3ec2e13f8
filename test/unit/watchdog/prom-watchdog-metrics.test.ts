import { describe, expect, it } from 'vitest'
import type { LoopLag } from '../../../src/heartbeat/beat-lags.js'
import { processRegistry } from '../../../src/platform/prom-metrics.js'
import { MOST_QUEUES, MOST_SERIES } from '../../../src/watchdog/bounded.js'
import { type FleetGauges, promWatchdogMetrics } from '../../../src/watchdog/prom-watchdog-metrics.js'
import { factsOf, incidentOf } from '../../support/findings.js'

const ok: LoopLag = ['fetch', 'img', 1000, 0]
const stale: LoopLag = ['reconcile', '', 66_000, 1]

function setup(queues: readonly string[] = []) {
  const metrics = promWatchdogMetrics(processRegistry({ role: 'watchdog', version: '0' }), queues)
  const scrape = async (fleet?: Partial<FleetGauges>) => {
    metrics.show(fleet && { supervisors: [], queues: [], incidents: [], ...fleet }, true)
    return (await metrics.text()).split('\n')
  }
  const of = (lines: readonly string[], name: string) => lines.filter((line) => line.startsWith(`${name}{`))
  return { scrape, of }
}

describe('the metrics of a watchdog', () => {
  it('show each supervisor, loop and queue', async () => {
    const { scrape } = setup()
    const lines = await scrape({
      supervisors: [{ name: 'a', heartbeatAgeMs: 250, loops: [ok, stale] }],
      queues: [factsOf({ waiting: 3 })],
      incidents: [incidentOf({ subjectKind: 'queue', queue: 'img', cause: 'queue_not_moving' })],
    })
    for (const line of [
      'unstuck_heartbeat_age_seconds{supervisor="a"} 0.25',
      'unstuck_poll_lag_seconds{supervisor="a",loop="fetch",queue="img"} 1',
      'unstuck_poll_stale{supervisor="a",loop="fetch",queue="img"} 0',
      'unstuck_poll_stale{supervisor="a",loop="reconcile",queue=""} 1',
      'unstuck_queue_jobs{queue="img",state="waiting"} 3',
      'unstuck_queue_stuck{queue="img"} 1',
      'unstuck_series_dropped{of="loops"} 0',
    ])
      expect(lines).toContain(line)
  })

  it('show none of what is gone, nor of what cannot be read', async () => {
    const { scrape, of } = setup()
    await scrape({ supervisors: [{ name: 'a', heartbeatAgeMs: 0, loops: [ok] }], queues: [factsOf()] })
    const later = await scrape({ supervisors: [{ name: 'b', heartbeatAgeMs: 0, loops: [] }] })
    expect(of(later, 'unstuck_heartbeat_age_seconds')).toEqual(['unstuck_heartbeat_age_seconds{supervisor="b"} 0'])
    expect(of(later, 'unstuck_poll_lag_seconds')).toEqual([])
    expect(of(later, 'unstuck_queue_jobs')).toEqual([])
    const unknown = await scrape(undefined)
    expect(of(unknown, 'unstuck_heartbeat_age_seconds')).toEqual([])
  })

  it('E4 stay bounded under a flood of supervisors and loops, keep the troubled ones, and count the others', async () => {
    const { scrape, of } = setup()
    const flood = Array.from({ length: MOST_SERIES + 500 }, (_, index) => ({
      name: `s${index}`,
      heartbeatAgeMs: index,
      loops: index === 7 ? [stale] : [ok],
    }))
    const lines = await scrape({ supervisors: flood })
    const ages = of(lines, 'unstuck_heartbeat_age_seconds')
    expect(ages).toHaveLength(MOST_SERIES)
    expect(ages[0]).toContain(`supervisor="s${MOST_SERIES + 499}"`)
    for (const name of ['unstuck_poll_lag_seconds', 'unstuck_poll_stale']) expect(of(lines, name)).toHaveLength(MOST_SERIES)
    expect(lines).toContain('unstuck_poll_stale{supervisor="s7",loop="reconcile",queue=""} 1')
    expect(lines).toContain('unstuck_series_dropped{of="supervisors"} 500')
    expect(lines).toContain('unstuck_series_dropped{of="loops"} 500')
    expect(await scrape({})).toContain('unstuck_series_dropped{of="loops"} 0')
  })

  it('E4 stay bounded under a flood of queues, and keep the configured ones and those with jobs', async () => {
    const { scrape, of } = setup(['mine'])
    const flood = Array.from({ length: MOST_QUEUES + 50 }, (_, index) => factsOf({ queue: `q${index}` }))
    const lines = await scrape({
      queues: [...flood, factsOf({ queue: 'busy', waiting: 1 }), factsOf({ queue: 'mine' })],
      incidents: [incidentOf({ subjectKind: 'queue', queue: `q${MOST_QUEUES + 49}`, cause: 'queue_not_moving' })],
    })
    for (const name of ['unstuck_eligible_workers', 'unstuck_queue_stuck', 'unstuck_jobs_exhausted']) {
      expect(of(lines, name)).toHaveLength(MOST_QUEUES)
      for (const queue of ['busy', 'mine']) expect(of(lines, name)).toContainEqual(expect.stringContaining(`"${queue}"`))
    }
    expect(lines).toContain('unstuck_series_dropped{of="queues"} 52')
  })

  it('E4 keep a name with odd characters in one line', async () => {
    const { scrape, of } = setup()
    const lines = await scrape({ supervisors: [{ name: 'a"b\\c\nd', heartbeatAgeMs: 0, loops: [] }] })
    expect(of(lines, 'unstuck_heartbeat_age_seconds')).toEqual(['unstuck_heartbeat_age_seconds{supervisor="a\\"b\\\\c\\nd"} 0'])
  })
})
