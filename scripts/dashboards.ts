/**
 * Writes what is generated below deploy/: Grafana's dashboards from the code beside them, and Kubernetes' PrometheusRule
 * from the rules that Prometheus reads. `node --import tsx scripts/dashboards.ts`; a test fails when they differ.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { parse, stringify } from 'yaml'
import { dashboards } from '../deploy/grafana/src/index.js'

const root = resolve(import.meta.dirname, '..')
const RULE_FILES = ['deploy/prometheus/rules/recording.yml', 'deploy/prometheus/rules/alerts.yml']

/** @returns what the code makes: path below the project's folder → text */
export function generatedFiles(): ReadonlyMap<string, string> {
  const files = new Map<string, string>()
  for (const [name, dashboard] of dashboards())
    files.set(`deploy/grafana/dashboards/${name}`, `${JSON.stringify(dashboard, undefined, 2)}\n`)
  files.set('deploy/kubernetes/monitoring/rules.yaml', prometheusRule())
  return files
}

/** The same groups under the operator's roof. Comments are for those who read the sources. */
function prometheusRule(): string {
  const groups = RULE_FILES.flatMap(
    (path) => (parse(readFileSync(resolve(root, path), 'utf8')) as { groups: unknown[] }).groups,
  )
  const rule = {
    apiVersion: 'monitoring.coreos.com/v1',
    kind: 'PrometheusRule',
    metadata: { name: 'unstuck', labels: { 'app.kubernetes.io/name': 'unstuck' } },
    spec: { groups },
  }
  return `# Made of ${RULE_FILES.join(' and ')} by scripts/dashboards.ts; change those.\n${stringify(rule, { lineWidth: 0 })}`
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  for (const [path, text] of generatedFiles()) {
    writeFileSync(resolve(root, path), text)
    process.stdout.write(`${path}\n`)
  }
}
