/** Alerts from a real wedge to a webhook, and their end: our processes, a real Prometheus and Alertmanager, our rules and routes. */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describe, expect, it, onTestFinished } from 'vitest'
import { type LogLine, type Running, scene, until } from '../support/processes.js'
import { startAlertmanager, startPrometheus, writeQuickAlerts } from '../support/prometheus.js'
import { startProxy } from '../support/proxy.js'

/** Scrape, evaluate, wait, send, each a second or so, and a machine that is busy with other things. */
const LIMIT_MS = 60_000

/** Short thresholds, so that a wedge shows within seconds. */
const quick = {
  loops: { pollIntervalMs: 1000, pollStaleThresholdMs: 5000, startGraceMs: 30_000 },
  heartbeat: { intervalMs: 500, timeoutMs: 5000 },
  watchdog: { intervalMs: 500, redisUnreachableAfterMs: 2000 },
}

interface Notice {
  readonly receiver: string
  readonly status: 'firing' | 'resolved'
  readonly labels: Readonly<Record<string, string>>
  readonly annotations: Readonly<Record<string, string>>
}

async function setup() {
  const stage = await scene()
  const proxy = await startProxy(stage.redis.port)
  const queues = {
    jobs: { handler: stage.handler('jobs', 'export default async () => 1'), threads: 1, notMovingAfterMs: 60_000 },
  }
  const watchdog = await stage.watchdog(stage.config('watchdog', { ...quick, queues }))
  const named = { ...quick, queues, supervisor: { name: 's1' } }
  const supervisor = await stage.supervisor(stage.config('supervisor', named, proxy.url))
  const webhook = await startWebhook()
  const alertmanager = await startAlertmanager({ webhookUrl: webhook.url })
  onTestFinished(() => alertmanager.stop())
  const prometheus = await startPrometheus({
    scrape: [
      { job: 'unstuck-watchdog', port: portOf(watchdog) },
      { job: 'unstuck-supervisor', port: portOf(supervisor) },
    ],
    rules: [writeQuickAlerts(stage.dir)],
    alertmanagerPort: alertmanager.port,
  })
  onTestFinished(() => prometheus.stop())
  // Before the first scrape nobody looks, and with its wait cut short WatchdogAbsent may say so.
  await until(
    async () => ({ up: await prometheus.query('sum(up)'), alerts: await alertsAt(alertmanager.url, 'inhibited=false') }),
    ({ up, alerts }) => up[0]?.value === 2 && alerts.includes('Watchdog') && !alerts.includes('WatchdogAbsent'),
    LIMIT_MS,
  )
  webhook.forget()
  const { notice, notices } = webhook
  return { ...stage, proxy, watchdog, supervisor, prometheus, alertmanager, notice, notices }
}

/** Takes what Alertmanager sends. */
async function startWebhook() {
  const notices: Notice[] = []
  const server = createServer((request, response) => {
    let body = ''
    request.on('data', (chunk: Buffer) => {
      body += chunk.toString()
    })
    request.on('end', () => {
      const { alerts } = JSON.parse(body) as { alerts: readonly Omit<Notice, 'receiver'>[] }
      for (const { status, labels, annotations } of alerts) {
        notices.push({ receiver: (request.url ?? '').slice(1), status, labels, annotations })
      }
      response.end()
    })
  })
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  const find = (alert: string, status: string) =>
    notices.find(({ labels, status: is }) => labels['alertname'] === alert && is === status)
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    notices,
    /** All but what the dead-man's switch was told. */
    forget: () => void notices.splice(0, notices.length, ...notices.filter(({ receiver }) => receiver === 'deadman')),
    /** The first, past or to come. */
    notice: async (alert: string, status: 'firing' | 'resolved'): Promise<Notice> => {
      const found = await until(
        async () => find(alert, status),
        (one) => one !== undefined,
        LIMIT_MS,
      )
      if (!found) throw new Error(`${alert} is not ${status}`)
      return found
    },
  }
}

/** What Alertmanager knows of, by name. @param filter `active=false`: the inhibited ones; `inhibited=false`: the others */
async function alertsAt(url: string, filter: string): Promise<(string | undefined)[]> {
  const alerts = (await (await fetch(`${url}/api/v2/alerts?${filter}`)).json()) as readonly Pick<Notice, 'labels'>[]
  return alerts.map(({ labels }) => labels['alertname'])
}

/** Who was woken, and why. */
function criticals(notices: readonly Notice[]): (string | undefined)[] {
  const firing = notices.filter(({ receiver, status }) => receiver === 'critical' && status === 'firing')
  return [...new Set(firing.map(({ labels }) => labels['alertname']))]
}

function portOf({ lines }: Running): number {
  const started = lines.find((line: LogLine) => line.event === 'started')
  return Number(started?.['port'] ?? /:(\d+)/.exec(started?.msg.replace('http://', '') ?? '')?.[1])
}

describe('an alert', () => {
  it('E3: a reply swallowed on the fetch connection fires PollStale at the webhook, and its end resolves it', async () => {
    const { proxy, notice, notices } = await setup()
    // The dead-man's switch is fed while all is well.
    expect(await notice('Watchdog', 'firing')).toMatchObject({ receiver: 'deadman', labels: { severity: 'none' } })
    expect(criticals(notices)).toEqual([])
    expect(proxy.swallow('bull:jobs:pc')).toBe(1)
    expect(await notice('PollStale', 'firing')).toEqual({
      receiver: 'critical',
      status: 'firing',
      labels: { alertname: 'PollStale', severity: 'critical', supervisor: 's1', loop: 'fetch', queue: 'jobs' },
      annotations: {
        summary: 'A loop does not poll: s1, fetch jobs',
        description: expect.stringContaining('unstuck incidents --open'),
        runbook_url: expect.stringMatching(/#pollstale$/),
      },
    })
    proxy.heal()
    expect(await notice('PollStale', 'resolved')).toMatchObject({ receiver: 'critical', labels: { supervisor: 's1' } })
    // One trouble, one alert: the standstill of its queue is explained by it.
    expect(criticals(notices)).toEqual(['PollStale'])
  }, 180_000)

  it('names a supervisor that was killed, and does not send its late beats beside it', async () => {
    const { supervisor, notice, notices, prometheus, alertmanager } = await setup()
    // Beats are called late when most of those that were seen are: with few good ones that would come before the death.
    await until(
      () => prometheus.query('count_over_time(unstuck_heartbeat_age_seconds{supervisor="s1"}[2m])'),
      ([sample]) => (sample?.value ?? 0) >= 15,
      LIMIT_MS,
    )
    supervisor.kill('SIGKILL')
    expect(await notice('ProcessDead', 'firing')).toMatchObject({ receiver: 'critical', labels: { supervisor: 's1' } })
    await until(
      () => alertsAt(alertmanager.url, 'active=false'),
      (suppressed) => suppressed.includes('HeartbeatLate'),
      LIMIT_MS,
    )
    expect(notices.filter(({ labels }) => labels['alertname'] === 'HeartbeatLate')).toEqual([])
  }, 180_000)

  it('B4: tells of a watchdog that died, when no other is there to tell', async () => {
    const { watchdog, notice } = await setup()
    watchdog.kill('SIGKILL')
    expect(await notice('WatchdogAbsent', 'firing')).toMatchObject({ receiver: 'critical', labels: { role: 'watchdog' } })
  }, 180_000)

  it('tells of Redis when it is away, and of its return', async () => {
    const { redis, notice } = await setup()
    redis.pause()
    expect(await notice('RedisDown', 'firing')).toMatchObject({ receiver: 'critical' })
    redis.resume()
    expect(await notice('RedisDown', 'resolved')).toMatchObject({ receiver: 'critical' })
  }, 180_000)
})
