/** deploy/prometheus and deploy/alertmanager: what their own tools say of them; and rules, code and docs name the same things. */
import { execFile } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { dispatchMetrics } from '../../src/dispatch/prom-dispatch-metrics.js'
import { CAUSES } from '../../src/heartbeat/beat.js'
import { BeatBoard } from '../../src/heartbeat/beat-board.js'
import { configKeys } from '../../src/platform/config-schema.js'
import { processRegistry } from '../../src/platform/prom-metrics.js'
import { promWatchdogMetrics } from '../../src/watchdog/prom-watchdog-metrics.js'
import { scene, unstuck, until } from '../support/processes.js'
import { readAlerts } from '../support/prometheus.js'

const root = resolve(import.meta.dirname, '../..')
const CONFIG = 'deploy/prometheus/prometheus.yml'
const RULES = ['deploy/prometheus/rules/alerts.yml', 'deploy/prometheus/rules/recording.yml']
const ROUTES = 'deploy/alertmanager/alertmanager.yml'
const operations = readFileSync(join(root, 'docs/operations.md'), 'utf8')

/** @returns the exit code and all that was said */
function run(program: string, args: readonly string[], input = ''): Promise<{ code: number; output: string }> {
  return new Promise((done, fail) => {
    const child = execFile(program, args, { cwd: root }, (error, stdout, stderr) => {
      if (error && typeof error.code !== 'number') fail(error)
      else done({ code: typeof error?.code === 'number' ? error.code : 0, output: `${stdout}${stderr}` })
    })
    child.stdin?.end(input)
  })
}

/** As the page is read where Markdown is shown: lower case, dashes for spaces, no punctuation. */
function anchors(markdown: string): string[] {
  const headings = [...markdown.matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) => heading)
  return headings.map((heading) =>
    heading
      .toLowerCase()
      .replaceAll(' ', '-')
      .replace(/[^\w-]/g, ''),
  )
}

describe('the files for Prometheus', () => {
  it('are a config and rules that promtool finds nothing wrong with', async () => {
    const config = await run('promtool', ['check', 'config', '--lint=all', '--lint-fatal', CONFIG])
    expect(config).toEqual({ code: 0, output: expect.stringContaining('SUCCESS: 2 rule files found') })
    const rules = await run('promtool', ['check', 'rules', '--lint=all', '--lint-fatal', ...RULES])
    expect(rules).toEqual({ code: 0, output: expect.not.stringContaining('FAILED') })
  })

  it('find every replica of the processes at the ports that they have by default', () => {
    const { scrape_configs: jobs } = parse(readFileSync(join(root, CONFIG), 'utf8')) as {
      scrape_configs: { job_name: string; dns_sd_configs: { names: string[]; type: string; port: number }[] }[]
    }
    const defaultOf = (key: string) => Number(configKeys().find((one) => one.key === `\`${key}\`` || one.key === key)?.default)
    expect(jobs.map(({ job_name, dns_sd_configs: [found] }) => [job_name, found?.names, found?.type, found?.port])).toEqual([
      ['unstuck-supervisor', ['supervisor'], 'A', defaultOf('supervisor.port')],
      ['unstuck-watchdog', ['watchdog'], 'A', defaultOf('http.port')],
    ])
  })

  it('ask only for metrics that the code makes', () => {
    const board = BeatBoard.create({ queues: [], loops: [] }, () => 0)
    const registries = [
      promWatchdogMetrics(processRegistry({ role: 'watchdog', version: '0' }), []).registry,
      dispatchMetrics(processRegistry({ role: 'supervisor', version: '0' }), board, []).registry,
    ]
    const real = new Set(registries.flatMap((registry) => registry.getMetricsAsArray().map(({ name }) => name)))
    const asked = RULES.flatMap((path) => readFileSync(join(root, path), 'utf8').match(/\bunstuck_[a-z_]+/g) ?? [])
    expect(asked.length).toBeGreaterThan(20)
    for (const name of asked) expect(real, name).toContain(name.replace(/_(bucket|count|sum)$/, ''))
  })
})

describe('/metrics', () => {
  it('of a live watchdog and a live supervisor is what promtool calls clean', async () => {
    const stage = await scene()
    const config = stage.config('unstuck', {
      queues: { jobs: { handler: stage.handler('jobs', 'export default async () => 1'), threads: 1 } },
    })
    const watchdog = await stage.watchdog(config)
    const supervisor = await stage.supervisor(config)
    expect(await unstuck(['enqueue', 'jobs', '--config', config], { cwd: stage.dir }).exited).toBe(0)
    const watching = /http:\S+/.exec(watchdog.lines.find(({ event }) => event === 'started')?.msg ?? '')?.[0]
    const serving = `http://127.0.0.1:${supervisor.lines.find(({ event }) => event === 'started')?.['port']}`
    const read = async (url: string | undefined) => (await fetch(`${url}/metrics`)).text()
    const ofWatchdog = await until(
      () => read(watching),
      (text) => text.includes('unstuck_queue_jobs{queue="jobs",state="completed"} 1'),
      40_000,
    )
    const ofSupervisor = await until(
      () => read(serving),
      (text) => text.includes('unstuck_attempts_total{queue="jobs",outcome="success"} 1'),
      40_000,
    )
    for (const text of [ofWatchdog, ofSupervisor]) {
      expect(await run('promtool', ['check', 'metrics'], text)).toEqual({ code: 0, output: '' })
    }
  }, 120_000)
})

describe('the alerts', () => {
  const alerts = readAlerts()

  it('each have a name, a severity, a summary and a description', () => {
    expect(new Set(alerts.map(({ alert }) => alert)).size).toBe(alerts.length)
    for (const { alert, labels, annotations } of alerts) {
      expect(alert).toMatch(/^([A-Z][a-z]+)+$/)
      expect(['critical', 'warning', 'none'], alert).toContain(labels.severity)
      expect(annotations.summary.length, alert).toBeGreaterThan(10)
      expect(annotations.description.length, alert).toBeGreaterThan(40)
    }
  })

  it('each lead to their own section of docs/operations.md, all at one place', () => {
    const known = anchors(operations)
    const pages = new Set<string | undefined>()
    for (const { alert, annotations } of alerts) {
      const [page, anchor] = annotations.runbook_url.split('#')
      pages.add(page)
      expect(anchor).toBe(alert.toLowerCase())
      expect(known).toContain(anchor)
    }
    expect([...pages]).toEqual([expect.stringMatching(/^https:\/\/\S+$/)])
  })

  it('and docs/operations.md has a section for no others', () => {
    const section = operations.split('\n## Alerts\n')[1]?.split('\n## ')[0] ?? ''
    const documented = [...section.matchAll(/^### (\w+)$/gm)].map(([, name]) => name)
    expect(documented.sort()).toEqual(alerts.map(({ alert }) => alert).sort())
  })

  it('leave out no cause of a STUCK line', () => {
    const watched = alerts.flatMap(({ expr }) =>
      [...expr.matchAll(/cause=~?"([a-z_|]+)"/g)].flatMap(([, causes = '']) => causes.split('|')),
    )
    // An outage is no incident in Redis; it has a gauge of its own.
    expect(alerts.some(({ alert, expr }) => alert === 'RedisUnreachable' && expr.includes('unstuck_redis_up == 0'))).toBe(true)
    expect([...new Set([...watched, 'redis_unreachable'])].sort()).toEqual([...CAUSES].sort())
  })
})

interface RuleTest {
  readonly name: string
  readonly promql_expr_test: readonly { readonly expr: string; readonly exp_samples: readonly { readonly labels: string }[] }[]
}

function ruleTests(): RuleTest[] {
  const dir = join(root, 'test/deploy/rules')
  return readdirSync(dir).flatMap((name) => (parse(readFileSync(join(dir, name), 'utf8')) as { tests: RuleTest[] }).tests)
}

/** Whether a question about ALERTS would show this one. */
function asksFor(expr: string, alert: string): boolean {
  const matchers = [...expr.matchAll(/alertname(=~|!~|=|!=)"([^"]+)"/g)]
  return (
    expr.startsWith('ALERTS{') &&
    matchers.every(([, operator = '', pattern = '']) => {
      const fits = operator.endsWith('~') ? new RegExp(`^(?:${pattern})$`).test(alert) : pattern === alert
      return operator.startsWith('!') ? !fits : fits
    })
  )
}

describe('the tests of the rules', () => {
  it.each(readdirSync(join(root, 'test/deploy/rules')))('%s holds', async (name) => {
    const { code, output } = await run('promtool', ['test', 'rules', join('test/deploy/rules', name)])
    expect({ code, output }).toEqual({ code: 0, output: expect.stringContaining('SUCCESS') })
  })

  it('see each alert fire, and see each be silent where it could be seen', () => {
    const questions = ruleTests().flatMap((test) => test.promql_expr_test)
    for (const { alert } of readAlerts()) {
      const asked = questions.filter(({ expr }) => asksFor(expr, alert))
      const fires = asked.filter(({ exp_samples }) => exp_samples.some(({ labels }) => labels.includes(`alertname="${alert}"`)))
      expect(fires.length, `${alert} fires`).toBeGreaterThan(0)
      // What always fires has no other side.
      if (alert !== 'Watchdog') expect(asked.length - fires.length, `${alert} is silent`).toBeGreaterThan(0)
    }
  })

  it('ask for each recorded series', () => {
    const asked = ruleTests().flatMap((test) => test.promql_expr_test.map(({ expr }) => expr))
    const recorded = [...readFileSync(join(root, 'deploy/prometheus/rules/recording.yml'), 'utf8').matchAll(/record: (\S+)/g)]
    expect(recorded.length).toBeGreaterThan(0)
    for (const [, name = ''] of recorded)
      expect(
        asked.some((expr) => expr.startsWith(name)),
        name,
      ).toBe(true)
  })
})

describe('the routes of Alertmanager', () => {
  it('are a config that amtool finds nothing wrong with', async () => {
    const checked = await run('amtool', ['check-config', ROUTES])
    expect(checked).toEqual({ code: 0, output: expect.stringContaining('SUCCESS') })
  })

  it('send every alert by its severity, and Watchdog to the dead-man switch', async () => {
    const receiverOf = async (alert: string, severity: string) => {
      const routed = ['config', 'routes', 'test', `--config.file=${ROUTES}`, `alertname=${alert}`, `severity=${severity}`]
      return (await run('amtool', routed)).output.split('\n')[0]
    }
    for (const { alert, labels } of readAlerts()) {
      expect(await receiverOf(alert, labels.severity), alert).toBe(alert === 'Watchdog' ? 'deadman' : labels.severity)
    }
  })
})
