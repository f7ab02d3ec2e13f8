/** The alerts as the dashboards ask for them: by name, since the same Prometheus may serve others. */
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { parse } from 'yaml'

const FILE = resolve(import.meta.dirname, '../../prometheus/rules/alerts.yml')
/** Fires always, and says only that alerts come through. */
const HEARTBEAT = 'Watchdog'

interface RuleFile {
  readonly groups: readonly { readonly rules: readonly { readonly alert?: string }[] }[]
}

const names = (parse(readFileSync(FILE, 'utf8')) as RuleFile).groups.flatMap(({ rules }) =>
  rules.flatMap(({ alert }) => alert ?? []),
)

export const ALL_ALERTS = `alertname=~"${names.join('|')}"`
export const ALERTS_OF_TROUBLE = `alertname=~"${names.filter((name) => name !== HEARTBEAT).join('|')}"`
