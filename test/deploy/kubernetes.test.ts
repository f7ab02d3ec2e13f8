/** The Kubernetes manifests: valid by the API's own schemas, of one piece with each other, the image, the config and the alerts. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { parse, parseAllDocuments } from 'yaml'
import { generatedFiles } from '../../scripts/dashboards.js'
import { loadConfig } from '../../src/platform/config-load.js'
import { configKeys } from '../../src/platform/config-schema.js'
import { type Manifest, problemsOf } from '../support/manifests.js'

const root = resolve(import.meta.dirname, '../..')
const read = (path: string) => readFileSync(join(root, path), 'utf8')

/** No manifest but values of a chart. */
const VALUES = 'autoscaling/prometheus-adapter.yaml'
const manifestFiles = readdirSync(join(root, 'deploy/kubernetes'), { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.yaml') && name !== VALUES)
  .sort()
const manifests = manifestFiles.flatMap((name) =>
  parseAllDocuments(read(`deploy/kubernetes/${name}`)).map((document) => {
    expect(document.errors, name).toEqual([])
    return document.toJS() as Manifest
  }),
)

type Labels = Readonly<Record<string, string>>

interface Probe {
  readonly httpGet: { readonly path: string; readonly port: string }
}

interface Container {
  readonly name: string
  readonly image: string
  readonly args: readonly string[]
  readonly env: readonly { readonly name: string; readonly value?: string; readonly valueFrom?: object }[]
  readonly ports: readonly { readonly name: string; readonly containerPort: number }[]
  readonly volumeMounts: readonly { readonly name: string; readonly mountPath: string; readonly readOnly?: boolean }[]
  readonly startupProbe: Probe
  readonly livenessProbe: Probe
  readonly readinessProbe: Probe
  readonly resources: object
  readonly securityContext: object
}

interface Deployment extends Manifest {
  readonly spec: {
    readonly replicas?: number
    readonly selector: { readonly matchLabels: Labels }
    readonly template: {
      readonly metadata: { readonly labels: Labels }
      readonly spec: {
        readonly terminationGracePeriodSeconds: number
        readonly automountServiceAccountToken: boolean
        readonly securityContext: object
        readonly containers: readonly Container[]
      }
    }
  }
}

const ofKind = (kind: string) => manifests.filter((manifest) => manifest.kind === kind)
const deployments = ofKind('Deployment') as Deployment[]

function deployment(component: string): {
  pod: Deployment['spec']['template']['spec']
  container: Container
  replicas?: number
} {
  const found = deployments.find(({ metadata }) => metadata.name === component)
  const pod = found?.spec.template.spec
  const container = pod?.containers[0]
  if (!found || !pod || !container) throw new Error(`no deployment ${component}`)
  return { pod, container, ...(found.spec.replicas === undefined ? {} : { replicas: found.spec.replicas }) }
}

/** Younger than the schema that is tested against: the operator has it since 0.64. */
function withoutYoungFields(manifest: Manifest): Manifest {
  return JSON.parse(
    JSON.stringify(manifest, (key, value: unknown) => (key === 'keep_firing_for' ? undefined : value)),
  ) as Manifest
}

/** The config map as the folder that it is mounted as. */
function appFolder(): string {
  const dir = mkdtempSync(join(tmpdir(), 'unstuck-kubernetes-'))
  onTestFinished(() => rmSync(dir, { recursive: true }))
  const { data } = ofKind('ConfigMap')[0] as Manifest & { readonly data: Labels }
  for (const [name, text] of Object.entries(data)) writeFileSync(join(dir, name), text)
  return dir
}

describe('the Kubernetes manifests', () => {
  it('are valid, in every value and every field', () => {
    expect(manifests.map(({ kind }) => kind)).toEqual(
      expect.arrayContaining(['Deployment', 'Service', 'PodDisruptionBudget', 'HorizontalPodAutoscaler', 'ServiceMonitor']),
    )
    expect(problemsOf(manifests.map(withoutYoungFields))).toEqual([])
  }, 180_000)

  it('would not be with a wrong value, a field that does not exist, or a kind that nobody knows', () => {
    const broken = ([from, to]: readonly [string, string]) =>
      JSON.parse(JSON.stringify(deployments[0]).replace(from, to)) as Manifest
    const wrong = [
      ['"containerPort":7374', '"containerPort":"http"'],
      ['"livenessProbe"', '"livelinessProbe"'],
      ['apps/v1', 'apps/v7'],
    ] as const
    const problems = problemsOf(wrong.map(broken))
    expect(problems).toContainEqual(expect.stringMatching(/containerPort must be integer$/))
    expect(problems).toContainEqual(expect.stringMatching(/livelinessProbe.* does not exist in type 'IContainer'/))
    expect(problems).toContainEqual(expect.stringMatching(/unknown kind$/))
  }, 180_000)

  it('give a supervisor longer than its drain, and ask each process where it answers', async () => {
    const config = await loadConfig({ cwd: appFolder(), env: { REDIS_URL: 'redis://127.0.0.1:6379' } })
    const supervisor = deployment('unstuck-supervisor')
    expect(supervisor.pod.terminationGracePeriodSeconds * 1000).toBeGreaterThanOrEqual(config.supervisor.drainMs + 10_000)
    for (const [component, port] of [
      ['unstuck-supervisor', config.supervisor.port],
      ['unstuck-watchdog', config.http.port],
    ] as const) {
      const { container } = deployment(component)
      expect(container.ports).toEqual([{ name: 'http', containerPort: port }])
      expect(container.args).toEqual([component.replace('unstuck-', '')])
      const { startupProbe, livenessProbe, readinessProbe } = container
      expect([startupProbe, livenessProbe, readinessProbe].map(({ httpGet }) => httpGet)).toEqual(
        ['/livez', '/livez', '/readyz'].map((path) => ({ path, port: 'http' })),
      )
    }
    expect(deployment('unstuck-watchdog').replicas).toBe(2)
  })

  it('run as nobody special, on a file system that is read only, with secrets in files alone', () => {
    const known = new Set(configKeys().flatMap(({ env }) => env.flatMap((name) => [name, `${name}_FILE`])))
    for (const { pod, container } of ['unstuck-supervisor', 'unstuck-watchdog'].map(deployment)) {
      expect(pod).toMatchObject({
        automountServiceAccountToken: false,
        securityContext: { runAsNonRoot: true, runAsUser: 1000, seccompProfile: { type: 'RuntimeDefault' } },
      })
      expect(container).toMatchObject({
        image: 'unstuck:latest',
        resources: {
          requests: { cpu: expect.any(String), memory: expect.any(String) },
          limits: { memory: expect.any(String) },
        },
        securityContext: { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: ['ALL'] } },
      })
      expect(container.env.map(({ name }) => name).filter((name) => !known.has(name))).toEqual([])
      for (const { name, value = '' } of container.env.filter(({ name }) => /URL|TOKEN/.test(name))) {
        expect(name).toMatch(/_FILE$/)
        expect(value).toMatch(/^\/run\/secrets\/unstuck\//)
      }
    }
    expect(ofKind('Secret')).toEqual([])
  })

  it('mount what the image wants to write to, and the config where it looks for it', () => {
    const dockerfile = read('Dockerfile')
    const runtimeDir = /UNSTUCK_RUNTIME_DIR=(\S+)/.exec(dockerfile)?.[1]
    const workDir = /^WORKDIR (\/app)$/m.exec(dockerfile)?.[1]
    expect(workDir).toBeDefined()
    expect(deployment('unstuck-supervisor').container.volumeMounts).toEqual(
      expect.arrayContaining([
        { name: 'app', mountPath: workDir, readOnly: true },
        { name: 'runtime', mountPath: runtimeDir },
        { name: 'tmp', mountPath: '/tmp' },
      ]),
    )
  })

  it('select each other: services, budgets, monitors and the scaler find their pods', () => {
    const pods = deployments.map(({ spec }) => spec.template.metadata.labels)
    const finds = (selector: Labels, all: readonly (Labels | undefined)[]) =>
      all.filter((labels) => Object.entries(selector).every(([key, value]) => labels?.[key] === value)).length
    const selector = ({ spec }: Manifest) => (spec as { selector: Labels & { matchLabels?: Labels } }).selector
    for (const service of ofKind('Service')) expect(finds(selector(service), pods), service.metadata.name).toBe(1)
    for (const own of [...deployments, ...ofKind('PodDisruptionBudget')])
      expect(finds(selector(own).matchLabels ?? {}, pods), `${own.kind} ${own.metadata.name}`).toBe(1)
    const services = ofKind('Service').map(({ metadata }) => metadata.labels)
    for (const monitor of ofKind('ServiceMonitor'))
      expect(finds(selector(monitor).matchLabels ?? {}, services), monitor.metadata.name).toBe(1)
    for (const { spec } of ofKind('HorizontalPodAutoscaler'))
      expect(deployments.map(({ metadata }) => metadata.name)).toContain(
        (spec as { scaleTargetRef: Labels }).scaleTargetRef['name'],
      )
  })

  it('scrape under the same job names as the Prometheus of compose', () => {
    const { scrape_configs } = parse(read('deploy/prometheus/prometheus.yml')) as { scrape_configs: { job_name: string }[] }
    const jobs = ofKind('ServiceMonitor').map(({ spec }) => {
      const { jobLabel, selector } = spec as { jobLabel: string; selector: { matchLabels: Labels } }
      return selector.matchLabels[jobLabel]
    })
    expect(jobs.sort()).toEqual(scrape_configs.map(({ job_name }) => job_name).sort())
  })

  it('have the alerts of Prometheus, all of them and as they are', () => {
    const path = 'deploy/kubernetes/monitoring/rules.yaml'
    expect(read(path), `${path}: run "node --import tsx scripts/dashboards.ts"`).toBe(generatedFiles().get(path))
    const groups = ['recording.yml', 'alerts.yml'].flatMap(
      (name) => (parse(read(`deploy/prometheus/rules/${name}`)) as { groups: unknown[] }).groups,
    )
    expect(ofKind('PrometheusRule').map(({ spec }) => spec)).toEqual([{ groups }])
  })

  it('scale by a metric that the adapter gives, for a queue that the config has', async () => {
    const { queues } = await loadConfig({ cwd: appFolder(), env: { REDIS_URL: 'redis://127.0.0.1:6379' } })
    const { rules } = parse(read(`deploy/kubernetes/${VALUES}`)) as { rules: { external: { name: { as: string } }[] } }
    const given = rules.external.map(({ name }) => name.as)
    const wanted = ofKind('HorizontalPodAutoscaler').flatMap(
      ({ spec }) =>
        (spec as { metrics: { external: { metric: { name: string; selector: { matchLabels: Labels } } } }[] }).metrics,
    )
    expect(wanted).toHaveLength(1)
    for (const { external } of wanted) {
      expect(given).toContain(external.metric.name)
      expect(Object.keys(queues)).toContain(external.metric.selector.matchLabels['queue'])
    }
  })
})
