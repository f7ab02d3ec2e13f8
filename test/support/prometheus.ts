/** A real Prometheus and Alertmanager of one's own for a test: on free loopback ports, in temporary folders, gone with `stop`. */
import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parse, stringify } from 'yaml'

/** The real routes, of which only the receivers' addresses and the waits are changed. */
const ALERTMANAGER_CONFIG = resolve(import.meta.dirname, '../../deploy/alertmanager/alertmanager.yml')

const RULES = resolve(import.meta.dirname, '../../deploy/prometheus/rules')

/** A loaded machine starts them in seconds. */
const START_LIMIT_MS = 60_000

export interface PrometheusOptions {
  /** On loopback; the same job may have several ports. */
  readonly scrape: readonly { readonly job: string; readonly port: number }[]
  /** Paths of rule files. */
  readonly rules?: readonly string[]
  readonly alertmanagerPort?: number
  /** Between scrapes and between evaluations, milliseconds. Default 1000. */
  readonly intervalMs?: number
}

export interface Sample {
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

export interface TestPrometheus {
  readonly url: string
  /** An instant query. @throws Error with Prometheus' own words when it is refused */
  query(expr: string): Promise<Sample[]>
  stop(): Promise<void>
}

export interface AlertmanagerOptions {
  /** Every receiver posts here, at its own path: `WEBHOOK_URL/RECEIVER`. */
  readonly webhookUrl: string
}

export interface TestAlertmanager {
  readonly url: string
  readonly port: number
  stop(): Promise<void>
}

/** Ready when this resolves; the first scrape comes within `intervalMs`. */
export async function startPrometheus(options: PrometheusOptions): Promise<TestPrometheus> {
  const dir = mkdtempSync(join(tmpdir(), 'unstuck-prometheus-'))
  const config = join(dir, 'prometheus.yml')
  writeFileSync(config, stringify(prometheusConfig(options)))
  const here = [`--storage.tsdb.path=${join(dir, 'data')}`, '--web.listen-address=127.0.0.1:0']
  // What fires before Alertmanager is found is sent again soon, not after a minute.
  const args = [`--config.file=${config}`, ...here, '--rules.alert.resend-delay=1s']
  const { address, stop } = await startProgram('prometheus', args, dir)
  const url = `http://${address}`
  return { url, query: (expr) => query(url, expr), stop }
}

export async function startAlertmanager({ webhookUrl }: AlertmanagerOptions): Promise<TestAlertmanager> {
  const dir = mkdtempSync(join(tmpdir(), 'unstuck-alertmanager-'))
  const config = join(dir, 'alertmanager.yml')
  writeFileSync(config, stringify(quickAlertmanagerConfig(readFileSync(ALERTMANAGER_CONFIG, 'utf8'), webhookUrl)))
  const here = ['--web.listen-address=127.0.0.1:0', '--cluster.listen-address=']
  const args = [`--config.file=${config}`, `--storage.path=${join(dir, 'data')}`, ...here]
  const { address, stop } = await startProgram('prometheus-alertmanager', args, dir)
  return { url: `http://${address}`, port: Number(address.split(':')[1]), stop }
}

export interface AlertRule {
  readonly alert: string
  readonly expr: string
  readonly for?: string
  readonly keep_firing_for?: string
  readonly labels: { readonly severity: string }
  readonly annotations: { readonly summary: string; readonly description: string; readonly runbook_url: string }
}

interface RuleFile {
  readonly groups: readonly { readonly name: string; readonly rules: readonly AlertRule[] }[]
}

export function readAlerts(): AlertRule[] {
  return readRules().groups.flatMap(({ rules }) => rules)
}

/** The real alerts, which wait a second where they wait longer, as a file in `dir`. @returns its path */
export function writeQuickAlerts(dir: string): string {
  const path = join(dir, 'alerts.yml')
  const quick = (rule: AlertRule) => ({
    ...rule,
    ...(rule.for === undefined ? {} : { for: '1s' }),
    ...(rule.keep_firing_for === undefined ? {} : { keep_firing_for: '1s' }),
  })
  const groups = readRules().groups.map(({ name, rules }) => ({ name, rules: rules.map(quick) }))
  writeFileSync(path, stringify({ groups }))
  return path
}

function readRules(): RuleFile {
  return parse(readFileSync(join(RULES, 'alerts.yml'), 'utf8')) as RuleFile
}

function prometheusConfig({ scrape, rules = [], alertmanagerPort, intervalMs = 1000 }: PrometheusOptions) {
  const interval = `${intervalMs}ms`
  const targets = new Map<string, string[]>()
  for (const { job, port } of scrape) targets.set(job, [...(targets.get(job) ?? []), `127.0.0.1:${port}`])
  return {
    global: { scrape_interval: interval, scrape_timeout: interval, evaluation_interval: interval },
    rule_files: rules.map((path) => resolve(path)),
    scrape_configs: [...targets].map(([job_name, at]) => ({ job_name, static_configs: [{ targets: at }] })),
    ...(alertmanagerPort === undefined
      ? {}
      : { alerting: { alertmanagers: [{ static_configs: [{ targets: [`127.0.0.1:${alertmanagerPort}`] }] }] } }),
  }
}

interface Route {
  readonly routes?: readonly Route[]
  readonly [field: string]: unknown
}

function quickAlertmanagerConfig(text: string, webhookUrl: string) {
  const config = parse(text) as { route: Route; receivers: readonly { name: string }[] }
  const quick = (route: Route): Route => ({
    ...route,
    group_wait: '0s',
    group_interval: '1s',
    routes: (route.routes ?? []).map(quick),
  })
  return {
    ...config,
    route: quick(config.route),
    receivers: config.receivers.map(({ name }) => ({
      name,
      webhook_configs: [{ url: `${webhookUrl}/${name}`, send_resolved: true }],
    })),
  }
}

async function query(url: string, expr: string): Promise<Sample[]> {
  const response = await fetch(`${url}/api/v1/query`, { method: 'POST', body: new URLSearchParams({ query: expr }) })
  const body = (await response.json()) as QueryAnswer
  if (body.status !== 'success') throw new Error(`${expr}: ${body.error}`)
  const { resultType, result } = body.data
  if (resultType === 'scalar') return [{ labels: {}, value: Number(result[1]) }]
  return result.map(({ metric, value }) => ({ labels: metric, value: Number(value[1]) }))
}

type QueryAnswer =
  | { readonly status: 'error'; readonly error: string }
  | {
      readonly status: 'success'
      readonly data:
        | { readonly resultType: 'scalar'; readonly result: readonly [number, string] }
        | {
            readonly resultType: 'vector'
            readonly result: readonly {
              readonly metric: Record<string, string>
              readonly value: readonly [number, string]
            }[]
          }
    }

/** Both say where they listen and when they serve, in a line each. @returns host and port */
async function startProgram(program: string, args: readonly string[], dir: string) {
  const child = spawn(program, [...args, '--log.format=json'], { cwd: dir, stdio: ['ignore', 'ignore', 'pipe'] })
  const exited = new Promise<void>((done) => child.once('close', () => done()).once('error', () => done()))
  const stop = async () => {
    child.kill('SIGKILL')
    await exited
    rmSync(dir, { recursive: true, force: true })
  }
  let output = ''
  const address = new Promise<string>((done, fail) => {
    const failed = (why: string) => fail(new Error(`${program}: ${why}\n${output}`))
    const timer = setTimeout(() => failed(`not up in ${START_LIMIT_MS} ms`), START_LIMIT_MS)
    child.once('error', (error) => failed(error.message))
    void exited.then(() => {
      clearTimeout(timer)
      failed('ended before it was up')
    })
    child.stderr.on('data', (chunk: Buffer) => {
      output += chunk.toString()
      const listening = /"address":"(127[\d.]+:[1-9]\d*)"[^\n]*"msg":"Listening on"/.exec(output)?.[1]
      if (listening !== undefined && (program !== 'prometheus' || output.includes('Server is ready'))) done(listening)
    })
  })
  try {
    return { address: await address, stop }
  } catch (error) {
    await stop()
    throw error
  }
}
