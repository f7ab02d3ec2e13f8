/** The incidents: which alerts fire, what is stuck and since when, and whether the watchdogs themselves can be believed. */
import type { Dashboard } from '@grafana/grafana-foundation-sdk/dashboard'
import { ALERTS_OF_TROUBLE, ALL_ALERTS } from './alerts.js'
import { alertList, BAD, board, cloud, lines, NEEDED, number, rows, timeline, WORTH_A_LOOK } from './panels.js'

const TROUBLE = `ALERTS{alertstate="firing", ${ALERTS_OF_TROUBLE}}`
const ALERT_LABELS = ['alertname', 'alertstate', 'severity', 'supervisor', 'loop', 'queue', 'cause', 'instance']
const openByCause = 'max by (subject_kind, cause) (unstuck_stuck)'

export function incidents(): Dashboard {
  return board({
    uid: 'unstuck-incidents',
    title: 'unstuck: incidents',
    help: 'Which alerts fire, what is stuck and since when, and whether the watchdogs themselves can be believed.',
    sections: [
      { title: 'Now', panels: [...now(), ...soFar()] },
      { title: 'Alerts', panels: alerts() },
      { title: 'Incidents', panels: stuck() },
      { title: 'The watchdogs themselves', panels: watchdogs() },
    ],
  })
}

function now() {
  return [
    number({
      title: 'Alerts that fire',
      help: 'Without the one that always fires.',
      width: 4,
      levels: BAD,
      expr: `count(${TROUBLE}) or vector(0)`,
    }),
    number({
      title: 'Open incidents',
      help: 'All that is stuck now.',
      width: 4,
      levels: BAD,
      expr: `sum(${openByCause}) or vector(0)`,
    }),
    number({
      title: 'Got stuck',
      help: 'STUCK lines in the time shown.',
      width: 4,
      levels: WORTH_A_LOOK,
      expr: 'round(sum(increase(unstuck_transitions_total{to="stuck"}[$__range]))) or vector(0)',
    }),
  ]
}

function soFar() {
  return [
    number({
      title: 'Resumed',
      help: 'RESUMED lines in the time shown.',
      width: 4,
      expr: 'round(sum(increase(unstuck_transitions_total{to="resumed"}[$__range]))) or vector(0)',
    }),
    number({
      title: 'Detection',
      help: '95 of 100 incidents in the time shown were opened so soon after their threshold was passed; 0 when there was none.',
      width: 4,
      unit: 's',
      levels: ['green', [2, 'orange'], [5, 'red']],
      expr: 'histogram_quantile(0.95, sum by (le) (increase(unstuck_detection_seconds_bucket[$__range]))) >= 0 or vector(0)',
    }),
    number({
      title: 'Last look',
      help: 'Since a watchdog last looked at the fleet. Nothing here can be believed when that is long ago.',
      width: 4,
      unit: 's',
      levels: ['green', [10, 'red']],
      expr: 'time() - max(unstuck_watchdog_last_cycle_timestamp_seconds)',
    }),
  ]
}

function alerts() {
  return [
    rows({
      title: 'Alerts',
      help: 'What fires or is about to. The one called Watchdog always fires: an outside monitor misses it when alerting itself is down.',
      width: 12,
      height: 10,
      labels: ALERT_LABELS,
      worst: 'Since',
      columns: [
        {
          expr: `max by (${ALERT_LABELS.join(', ')}) (time() - ALERTS_FOR_STATE * ignoring (alertstate) group_right () ALERTS{${ALL_ALERTS}})`,
          name: 'Since',
          unit: 's',
        },
      ],
    }),
    alertList({
      title: 'Alert list',
      help: 'The alerts of the data source with their summaries and runbooks, as far as Grafana reads its rules (manageAlerts).',
      width: 12,
    }),
    timeline({
      title: 'Alerts over time',
      help: 'When which alert fired.',
      width: 24,
      words: { '1': 'fires' },
      ask: { expr: `max by (alertname) (ALERTS{alertstate="firing", ${ALL_ALERTS}})`, name: '{{alertname}}' },
    }),
  ]
}

function stuck() {
  return [
    timeline({
      title: 'Open incidents by cause',
      help: 'How many there were of which cause. docs/operations.md says what each means and what to do.',
      width: 24,
      height: 12,
      ask: { expr: openByCause, name: '{{subject_kind}}: {{cause}}' },
    }),
    lines({
      title: 'STUCK lines',
      help: 'What got stuck, by cause. Each is said once, by one of the watchdogs.',
      width: 8,
      bars: true,
      asks: [{ expr: linesOf('stuck'), name: '{{cause}}' }],
    }),
    lines({
      title: 'RESUMED lines',
      help: 'What ended, by cause.',
      width: 8,
      bars: true,
      asks: [{ expr: linesOf('resumed'), name: '{{cause}}' }],
    }),
    lines({
      title: 'Stack dumps',
      help: 'Dumps that were asked for when something got stuck, by what came of it. "unstuck incidents" has their ids.',
      width: 8,
      bars: true,
      asks: [{ expr: 'sum by (outcome) (increase(unstuck_stack_dumps_total[$__rate_interval]))', name: '{{outcome}}' }],
    }),
  ]
}

function linesOf(to: 'stuck' | 'resumed'): string {
  return `sum by (cause) (increase(unstuck_transitions_total{to="${to}"}[$__rate_interval]))`
}

function watchdogs() {
  const cycle = (of: number) =>
    `histogram_quantile(${of}, sum by (le) (rate(unstuck_watchdog_cycle_seconds_bucket[$__rate_interval])))`
  return [
    lines({
      title: 'Since the last look',
      help: 'A watchdog looks at least once a second.',
      width: 8,
      unit: 's',
      levels: ['green', [10, 'red']],
      asks: [{ expr: 'time() - unstuck_watchdog_last_cycle_timestamp_seconds', name: '{{instance}}' }],
    }),
    lines({
      title: 'Duration of a look',
      help: 'It follows what is late, not the size of the fleet. Long ones mean a slow Redis.',
      width: 8,
      unit: 's',
      asks: [
        { expr: cycle(0.5), name: 'p50' },
        { expr: cycle(0.99), name: 'p99' },
      ],
    }),
    cloud({
      title: 'Detection',
      help: 'From the moment when a threshold was passed to the opening of the incident.',
      width: 8,
      ask: { expr: 'sum by (le) (increase(unstuck_detection_seconds_bucket[$__rate_interval]))', name: '{{le}}' },
    }),
    timeline({
      title: 'Redis, as each watchdog sees it',
      help: 'While a watchdog cannot read Redis it judges nobody.',
      width: 24,
      height: 6,
      levels: NEEDED,
      words: { '0': 'unreachable', '1': 'reached' },
      ask: { expr: 'unstuck_redis_up', name: '{{instance}}' },
    }),
  ]
}
