/** The alerts at a real Prometheus that scrapes a fleet in every trouble: each fires, and its text can be read. */
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { CAUSES } from '../../src/heartbeat/beat.js'
import { until } from '../support/processes.js'
import { readAlerts, startPrometheus, writeQuickAlerts } from '../support/prometheus.js'

/** What a fleet in every kind of trouble would show; `{n}` grows with each scrape. */
const TROUBLE = `
unstuck_up{role="watchdog"} 1
unstuck_redis_up 1
unstuck_poll_stale{supervisor="s1",loop="fetch",queue="mail"} 1
unstuck_heartbeat_age_seconds{supervisor="s2"} 90
unstuck_queue_stuck{queue="mail"} 1
unstuck_queue_stuck{queue="img"} 1
unstuck_eligible_workers{queue="mail"} 0
unstuck_eligible_workers{queue="img"} 1
unstuck_queue_oldest_waiting_seconds{queue="img"} 3600
unstuck_jobs_exhausted{queue="mail"} 9
unstuck_breaker_open{queue="mail"} 2
unstuck_watchdog_cycle_seconds_count {n}
unstuck_transitions_total{cause="watchdog_blind",to="stuck"} {n}
${CAUSES.map((cause) => `unstuck_stuck{cause="${cause}"} 1`).join('\n')}
`

/** Serves these texts, each at a port of its own. @returns the ports */
async function serveMetrics(...texts: readonly string[]): Promise<number[]> {
  return Promise.all(
    texts.map(async (text) => {
      let scrapes = 0
      const server = createServer((_request, response) => {
        scrapes += 1
        response.setHeader('content-type', 'text/plain; version=0.0.4').end(text.replaceAll('{n}', String(scrapes)))
      })
      await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
      onTestFinished(() => {
        server.closeAllConnections()
        server.close()
      })
      return (server.address() as AddressInfo).port
    }),
  )
}

interface ActiveAlert {
  readonly state: string
  readonly labels: Readonly<Record<string, string>>
  readonly annotations: Readonly<Record<string, string>>
}

/** The alerts that fire at a real Prometheus which scrapes these texts, once all of the expected ones do. */
async function alertsOf(names: readonly string[], texts: readonly string[]): Promise<ActiveAlert[]> {
  const dir = mkdtempSync(join(tmpdir(), 'unstuck-rules-'))
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }))
  const ports = await serveMetrics(...texts)
  const prometheus = await startPrometheus({
    scrape: ports.map((port) => ({ job: 'fleet', port })),
    rules: [writeQuickAlerts(dir)],
    intervalMs: 500,
  })
  onTestFinished(() => prometheus.stop())
  const read = async () => {
    const answer = (await (await fetch(`${prometheus.url}/api/v1/alerts`)).json()) as { data: { alerts: ActiveAlert[] } }
    return answer.data.alerts.filter(({ state }) => state === 'firing')
  }
  return until(read, (firing) => names.every((name) => firing.some(({ labels }) => labels['alertname'] === name)), 40_000)
}

describe('what an alert says', () => {
  it('names who is in trouble, for a fleet in which everything is wrong', async () => {
    const without = ['RedisDown', 'RedisUnreachable', 'WatchdogAbsent']
    const names = readAlerts().flatMap(({ alert }) => (without.includes(alert) ? [] : [alert]))
    const firing = await alertsOf(names.concat('RedisUnreachable'), [TROUBLE, 'unstuck_redis_up 0'])
    const said = firing.map(({ labels, annotations }) => `${labels['alertname']}: ${annotations['summary']}`)
    const instance = firing.find(({ labels }) => labels['alertname'] === 'RedisUnreachable')?.labels['instance']
    expect(said.sort()).toEqual([
      'BreakerOpen: The breaker of 2 group(s) of queue mail is open',
      'EventLoopBlocked: The main event loop of 1 supervisor(s) does not turn',
      'HeartbeatLate: The beats of s2 come late: 1m 30s',
      'JobStuck: 1 job(s) show no progress (job_silent)',
      'JobStuck: 1 job(s) show no progress (launch_overdue)',
      'JobsExhausted: 9 job(s) of queue mail are out of attempts',
      'LockLate: The locks of running jobs are not renewed',
      'NoEligibleWorker: Nobody serves queue mail',
      'OldestWaitingTooOld: The next job of queue img is 1h 0m 0s old',
      'PollStale: A loop does not poll: s1, fetch mail',
      'ProcessDead: A supervisor is dead: s2',
      'QueueNotMoving: Queue img does not move',
      `RedisUnreachable: The watchdog at ${instance} does not reach Redis, another does`,
      'SchedulerOverdue: A job scheduler makes no jobs any more',
      'ThreadBlocked: 1 thread(s) with a job do not turn',
      'Watchdog: Alerts reach you',
      'WatchdogBlind: A watchdog could not judge for a while',
      'WatchdogLost: 1 watchdog(s) went silent without a goodbye',
    ])
  })

  it('is still said when nobody can be named, and when nobody looks', async () => {
    const unnamed = 'unstuck_redis_up 0\nunstuck_stuck{cause="poll_stale"} 1\nunstuck_stuck{cause="no_eligible_worker"} 1\n'
    const firing = await alertsOf(['PollStale', 'NoEligibleWorker', 'WatchdogAbsent', 'RedisDown'], [unnamed])
    expect(firing.map(({ annotations }) => annotations['summary']).sort()).toEqual([
      'A loop does not poll',
      'Alerts reach you',
      'No watchdog looks',
      'No watchdog reaches Redis',
      'Nobody serves a queue',
    ])
  })
})
