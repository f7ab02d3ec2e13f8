/** Grafana's dashboards: what is committed is what the code makes, and what they and the alerts ask is there in a real run. */
import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { parse } from 'yaml'
import { dashboards } from '../../deploy/grafana/src/index.js'
import { generatedFiles } from '../../scripts/dashboards.js'
import { Dispatcher } from '../../src/index.js'
import { type LogLine, type Running, scene, until } from '../support/processes.js'
import { type Sample, startPrometheus, type TestPrometheus } from '../support/prometheus.js'

const root = resolve(import.meta.dirname, '../..')
const RULES = join(root, 'deploy/prometheus/rules')
const RULE_FILES = readdirSync(RULES).map((name) => join(RULES, name))

/** What Grafana reads of a panel. */
interface Panel {
  readonly id: number
  readonly type: string
  readonly title: string
  readonly description?: string
  readonly datasource?: { readonly uid: string }
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number }
  readonly targets?: readonly { readonly refId: string; readonly expr: string; readonly datasource: { readonly uid: string } }[]
}

interface Board {
  readonly uid: string
  readonly title: string
  readonly panels: readonly Panel[]
  readonly annotations: { readonly list: readonly { readonly name: string; readonly expr: string }[] }
  readonly templating: { readonly list: readonly { readonly name: string; readonly type: string; readonly query?: string }[] }
}

interface Rule {
  readonly alert?: string
  readonly record?: string
  readonly expr: string
}

const boards = [...dashboards().values()].map((board) => JSON.parse(JSON.stringify(board)) as Board)
const panels = boards.flatMap((board) => board.panels.map((panel) => ({ ...panel, name: `${board.title}: ${panel.title}` })))
const rules = RULE_FILES.flatMap((path) =>
  (parse(readFileSync(path, 'utf8')) as { groups: { rules: Rule[] }[] }).groups.flatMap((group) => group.rules),
)

/** A query as Grafana sends it, with its variables filled in. */
const sent = (expr: string) =>
  expr.replaceAll('$__rate_interval', '30s').replaceAll('$__range', '10m').replaceAll('$queue', '.*')

/** What asks for data, and where: panels, marks, the variables' values. */
const questions = [
  ...panels.flatMap(({ name, targets = [] }) => targets.map(({ refId, expr }) => ({ name: `${name} (${refId})`, expr }))),
  ...boards.flatMap(({ title, annotations }) =>
    annotations.list.map(({ name, expr }) => ({ name: `${title}: ${name}`, expr })),
  ),
  ...boards.flatMap(({ title, templating }) =>
    templating.list.flatMap(({ name, query }) => {
      const expr = /^label_values\((.+), \w+\)$/.exec(query ?? '')?.[1]
      return expr === undefined ? [] : [{ name: `${title}: $${name}`, expr }]
    }),
  ),
  { name: 'the scaler of Kubernetes', expr: backlogOf('work') },
].map(({ name, expr }) => ({ name, expr: sent(expr) }))

/** The query of Kubernetes' prometheus-adapter. It adds the labels that the scaler names. */
function backlogOf(queue: string): string {
  const values = readFileSync(join(root, 'deploy/kubernetes/autoscaling/prometheus-adapter.yaml'), 'utf8')
  const { rules } = parse(values) as { rules: { external: { metricsQuery: string }[] } }
  return rules.external[0]?.metricsQuery.replace('<<.LabelMatchers>>', `queue="${queue}"`) ?? ''
}

/** The selectors in an expression: `metric{label="value"}`. */
const selectorsIn = (expr: string) => expr.match(/\b(?:unstuck[:_][a-z_:]+|up|ALERTS)\b(?:\{[^}]*\})?/g) ?? []

/** Short thresholds, so that there is something to see within seconds. */
const QUICK = {
  loops: { pollIntervalMs: 1000 },
  heartbeat: { intervalMs: 300, timeoutMs: 2000 },
  watchdog: { intervalMs: 500 },
}

const HANDLER = `export default async (job, ctx) => {
  if (job.name === 'fail') throw new Error('no network')
  if (job.name === 'hang') await ctx.step('call', () => new Promise((done) => setTimeout(done, 3_600_000)))
}`

/** Two watchdogs and two supervisors, scraped by a Prometheus with the real rules, and jobs that flow all the time. */
async function setup() {
  const stage = await scene()
  const handler = stage.handler('any', HANDLER)
  const queues = {
    work: { handler, threads: 2, silentAfterMs: 2000 },
    broken: { handler, threads: 1, attempts: { max: 1 }, breaker: { failures: 3 } },
    lonely: { handler, threads: 1, noWorkerAfterMs: 1000 },
  }
  const config = stage.config('fleet', { ...QUICK, queues })
  const served = ['--queue', 'work', '--queue', 'broken']
  const watchdogs = [await stage.watchdog(config), await stage.watchdog(config)] as const
  const stays = await stage.supervisor(config, [...served, '--name', 'stays'])
  const dies = await stage.supervisor(config, [...served, '--name', 'dies'])
  const prometheus = await startPrometheus({
    scrape: [
      ...watchdogs.map((process) => ({ job: 'watchdog', port: portOf(process) })),
      ...[stays, dies].map((process) => ({ job: 'supervisor', port: portOf(process) })),
    ],
    rules: RULE_FILES,
  })
  onTestFinished(() => prometheus.stop())
  const dispatcher = await Dispatcher.connect({ redis: { url: stage.redis.url }, queues })
  onTestFinished(() => dispatcher.close())
  return { prometheus, dispatcher, dies }
}

const isStart = (line: LogLine) => line.event === 'started'

/** A supervisor names its port; a watchdog the whole address. */
function portOf({ lines }: Running): number {
  const line = lines.find(isStart)
  return Number(line?.['port'] ?? /:(\d+)/.exec(line?.msg ?? '')?.[1])
}

/** Quick jobs, all the time until the test ends. */
function feed(dispatcher: Dispatcher): void {
  const timer = setInterval(() => void dispatcher.add('work', {}, { name: 'quick' }).catch(() => undefined), 300)
  onTestFinished(() => clearInterval(timer))
}

const hasData = (samples: readonly Sample[]) => samples.some(({ value }) => Number.isFinite(value))

/** @returns the name of each question that has no answer, with it */
async function unanswered(prometheus: TestPrometheus, asked: readonly { name: string; expr: string }[]): Promise<string[]> {
  const empty: string[] = []
  for (const { name, expr } of asked) {
    await until(() => prometheus.query(expr), hasData, 30_000).catch((error: unknown) =>
      empty.push(`${name}: ${expr}: ${error}`),
    )
  }
  return empty
}

/** Waits until the panel of one number shows this. */
async function shows(prometheus: TestPrometheus, name: string, fits: (value: number) => boolean): Promise<void> {
  const expr = sent(panels.find((panel) => panel.name === name)?.targets?.[0]?.expr ?? '')
  await until(async () => (await prometheus.query(expr))[0]?.value ?? Number.NaN, fits, 60_000).catch((error: unknown) =>
    expect.fail(`${name}: ${error}`),
  )
}

describe('the dashboards', () => {
  it('are committed as the code makes them, and no others', () => {
    const made = [...generatedFiles()].filter(([path]) => path.startsWith('deploy/grafana/'))
    expect(readdirSync(join(root, 'deploy/grafana/dashboards')).sort()).toEqual([...dashboards().keys()].sort())
    expect(made).toHaveLength(3)
    for (const [path, text] of made) {
      expect(readFileSync(join(root, path), 'utf8'), `${path}: run "node --import tsx scripts/dashboards.ts"`).toBe(text)
    }
  })

  it('say what each panel means, and ask the data source that is chosen', () => {
    for (const { name, type, description, datasource, targets = [] } of panels.filter(({ type }) => type !== 'row')) {
      expect(description, name).toMatch(/\w{3}.*\.$/)
      const asked = [...(type === 'alertlist' ? [] : [datasource?.uid]), ...targets.map((target) => target.datasource.uid)]
      expect(new Set(asked), name).toEqual(new Set(type === 'alertlist' ? [] : ['${' + 'datasource}']))
    }
    for (const { templating } of boards) expect(templating.list[0]).toMatchObject({ name: 'datasource', type: 'datasource' })
  })

  it('have panels side by side, not on top of each other, each with an id', () => {
    for (const { title, panels: own } of boards) {
      expect(new Set(own.map(({ id }) => id)).size, title).toBe(own.length)
      const cells = own.flatMap(({ gridPos: { x, y, w, h } }) =>
        Array.from({ length: w * h }, (_, index) => `${x + (index % w)},${y + Math.floor(index / w)}`),
      )
      expect(new Set(cells).size, title).toBe(cells.length)
      expect(Math.max(...own.map(({ gridPos: { x, w } }) => x + w)), title).toBe(24)
    }
  })

  it('and the alerts ask for nothing that a real run does not show, with failing, hanging, orphaned and unserved jobs', async () => {
    const { prometheus, dispatcher, dies } = await setup()
    await shows(prometheus, 'unstuck: fleet: Supervisors', (value) => value === 2)
    await until(
      () => prometheus.query('count(unstuck_up)'),
      (samples) => samples[0]?.value === 4,
    )
    feed(dispatcher)
    await dispatcher.addBulk('broken', [{ name: 'fail' }, { name: 'fail' }, { name: 'fail' }])
    await dispatcher.add('work', {}, { name: 'hang' })
    await dispatcher.add('lonely', {}, { name: 'quick' })
    await shows(prometheus, 'unstuck: queues: Exhausted', (value) => value === 3)
    dies.kill('SIGKILL')

    await shows(prometheus, 'unstuck: fleet: Dead', (value) => value === 1)
    await shows(prometheus, 'unstuck: fleet: Supervisors', (value) => value === 1)
    await shows(prometheus, 'unstuck: fleet: Watchdogs', (value) => value === 2)
    await shows(prometheus, 'unstuck: fleet: Redis', (value) => value === 1)
    await shows(prometheus, 'unstuck: queues: Open breakers', (value) => value === 1)
    await shows(prometheus, 'unstuck: queues: Stuck queues', (value) => value === 1)
    await shows(prometheus, 'unstuck: incidents: Open incidents', (value) => value === 3)
    await shows(prometheus, 'unstuck: incidents: Got stuck', (value) => value >= 3)
    expect(await unanswered(prometheus, questions)).toEqual([])

    for (const { expr } of rules) await prometheus.query(expr)
    const selectors = rules.flatMap(({ alert, record, expr }) =>
      selectorsIn(expr).map((selector) => ({ name: alert ?? record ?? '', expr: selector })),
    )
    expect(selectors.length).toBeGreaterThanOrEqual(rules.length - 1)
    expect(await unanswered(prometheus, selectors)).toEqual([])
  }, 300_000)
})
