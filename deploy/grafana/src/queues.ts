/** The queues: what waits, what flows, how long it takes, and what failed and comes back. */

import * as dashboard from '@grafana/grafana-foundation-sdk/dashboard'
import {
  type Dashboard,
  type QueryVariableBuilder,
  VariableRefresh,
  VariableSort,
} from '@grafana/grafana-foundation-sdk/dashboard'
import { BAD, board, type Column, cloud, lines, number, rows, SOURCE, WORTH_A_LOOK } from './panels.js'

const CHOSEN = 'queue=~"$queue"'
/** Each watchdog shows the same gauges. */
const perQueue = (metric: string, labels = '') => `max by (queue) (${metric}{${CHOSEN}${labels}})`
const jobs = (state: string) => perQueue('unstuck_queue_jobs', `, state="${state}"`)
const rate = (metric: string) => `rate(${metric}{${CHOSEN}}[$__rate_interval])`
const added = (metric: string) => `increase(${metric}{${CHOSEN}}[$__rate_interval])`

export function queues(): Dashboard {
  return board({
    uid: 'unstuck-queues',
    title: 'unstuck: queues',
    help: 'What waits, what flows, how long it takes, and what failed and comes back.',
    variables: [queueVariable()],
    sections: [
      { title: 'Now', panels: [...now(), allQueues()] },
      { title: 'Flow', panels: [...flow(), ...attempts()] },
      { title: 'Time', panels: time() },
      { title: 'Failing and coming back', panels: recovery() },
    ],
  })
}

function queueVariable(): QueryVariableBuilder {
  return new dashboard.QueryVariableBuilder('queue')
    .label('Queue')
    .datasource(SOURCE)
    .query('label_values(unstuck_queue_stuck, queue)')
    .refresh(VariableRefresh.OnTimeRangeChanged)
    .sort(VariableSort.AlphabeticalAsc)
    .multi(true)
    .includeAll(true)
    .allValue('.*')
    .current({ selected: true, text: 'All', value: '$__all' })
}

function now() {
  const total = (of: string) => `sum(${of}) or vector(0)`
  return [
    number({ title: 'Waiting', help: 'Jobs that could run now.', width: 4, expr: total(jobs('waiting')) }),
    number({ title: 'Running', help: 'Jobs that a supervisor has claimed.', width: 4, expr: total(jobs('active')) }),
    number({
      title: 'Longest wait',
      help: 'Age of the oldest job that is next in line in its queue.',
      width: 4,
      unit: 's',
      expr: `max(unstuck_queue_oldest_waiting_seconds{${CHOSEN}}) or vector(0)`,
    }),
    number({
      title: 'Stuck queues',
      help: 'Queues with an open incident of their own: nobody serves them, nothing is taken, or a scheduler is overdue.',
      width: 4,
      levels: BAD,
      expr: total(perQueue('unstuck_queue_stuck')),
    }),
    number({
      title: 'Exhausted',
      help: 'Jobs out of attempts by failures that may pass; they come back by themselves after their cooldown.',
      width: 4,
      levels: WORTH_A_LOOK,
      expr: total(perQueue('unstuck_jobs_exhausted')),
    }),
    number({
      title: 'Open breakers',
      help: 'Groups whose jobs are parked, uncharged, while one probe at a time looks whether what they need works again.',
      width: 4,
      levels: WORTH_A_LOOK,
      expr: total(perQueue('unstuck_breaker_open')),
    }),
  ]
}

function allQueues() {
  const columns: Column[] = [
    { name: 'Waiting', expr: jobs('waiting') },
    { name: 'Running', expr: jobs('active') },
    { name: 'Delayed', expr: jobs('delayed') },
    { name: 'Failed', expr: jobs('failed') },
    { name: 'Exhausted', expr: perQueue('unstuck_jobs_exhausted'), levels: WORTH_A_LOOK },
    { name: 'Open breakers', expr: perQueue('unstuck_breaker_open'), levels: WORTH_A_LOOK },
    { name: 'Longest wait', expr: perQueue('unstuck_queue_oldest_waiting_seconds'), unit: 's' },
    { name: 'Supervisors', expr: perQueue('unstuck_eligible_workers'), levels: ['red', [1, 'text']] },
    { name: 'Stuck', expr: perQueue('unstuck_queue_stuck'), levels: BAD },
  ]
  return rows({
    title: 'Queues',
    help: 'All chosen queues now. Supervisors: the live ones that take its jobs.',
    width: 24,
    labels: ['queue'],
    worst: 'Stuck',
    columns,
  })
}

function flow() {
  return [
    lines({
      title: 'Waiting jobs',
      help: 'Jobs that could run now.',
      width: 8,
      asks: [{ expr: jobs('waiting'), name: '{{queue}}' }],
    }),
    lines({
      title: 'Longest wait',
      help: 'Age of the job that is next in line. It grows by a second each second when nothing is taken.',
      width: 8,
      unit: 's',
      asks: [{ expr: perQueue('unstuck_queue_oldest_waiting_seconds'), name: '{{queue}}' }],
    }),
    lines({
      title: 'Supervisors that take its jobs',
      help: 'Live and neither draining nor paused. 0 while jobs wait is an incident.',
      width: 8,
      asks: [{ expr: perQueue('unstuck_eligible_workers'), name: '{{queue}}' }],
    }),
  ]
}

function attempts() {
  return [
    lines({
      title: 'Attempts by outcome',
      help: 'Attempts that ended, each second. handed_back is charged to nobody: a stop, a rate limit, a neighbour that went down.',
      width: 8,
      unit: 'ops',
      stacked: true,
      asks: [{ expr: `sum by (outcome) (${rate('unstuck_attempts_total')})`, name: '{{outcome}}' }],
    }),
    lines({
      title: 'Attempts by queue',
      help: 'Attempts that ended, each second.',
      width: 8,
      unit: 'ops',
      asks: [{ expr: `sum by (queue) (${rate('unstuck_attempts_total')})`, name: '{{queue}}' }],
    }),
    lines({
      title: 'Share that failed',
      help: 'Attempts that failed, were killed or lost their supervisor, of all that ended; 0 where none ended.',
      width: 8,
      unit: 'percentunit',
      asks: [{ expr: failedShare(), name: '{{queue}}' }],
    }),
  ]
}

function failedShare(): string {
  const all = `sum by (queue) (${rate('unstuck_attempts_total')})`
  const failed = `rate(unstuck_attempts_total{${CHOSEN}, outcome=~"transient|permanent|killed|supervisor_lost"}[$__rate_interval])`
  return `sum by (queue) (${failed}) / (${all} > 0) or ${all} * 0`
}

function time() {
  const quantile = (of: number, metric: string) =>
    `histogram_quantile(${of}, sum by (le) (${rate(`unstuck_job_${metric}_seconds_bucket`)}))`
  const quantiles = (metric: string) => [0.5, 0.95, 0.99].map((of) => ({ expr: quantile(of, metric), name: `p${of * 100}` }))
  return [
    lines({
      title: 'Run time',
      help: 'How long attempts ran, from the bounds of the buckets. Nothing while none ends.',
      width: 8,
      unit: 's',
      asks: quantiles('duration'),
    }),
    lines({
      title: 'Waiting time',
      help: 'How long jobs waited for a slot from the moment when they could have run. Nothing while none starts.',
      width: 8,
      unit: 's',
      asks: quantiles('wait'),
    }),
    cloud({
      title: 'Run times',
      help: 'How many attempts ran for how long.',
      width: 8,
      ask: { expr: `sum by (le) (${added('unstuck_job_duration_seconds_bucket')})`, name: '{{le}}' },
    }),
  ]
}

function recovery() {
  return [
    lines({
      title: 'Exhausted jobs',
      help: 'They come back after their cooldown, when the breaker closes, or by "unstuck reset QUEUE --all".',
      width: 8,
      asks: [{ expr: perQueue('unstuck_jobs_exhausted'), name: '{{queue}}' }],
    }),
    lines({
      title: 'Open breakers',
      help: 'Groups of a queue that fail as a whole.',
      width: 8,
      levels: WORTH_A_LOOK,
      asks: [{ expr: perQueue('unstuck_breaker_open'), name: '{{queue}}' }],
    }),
    lines({
      title: 'Resets by reason',
      help: 'Jobs that got their attempts back.',
      width: 8,
      bars: true,
      asks: [{ expr: `sum by (by) (${added('unstuck_attempt_resets_total')})`, name: '{{by}}' }],
    }),
    lines({
      title: 'Orphans taken back',
      help: 'Jobs whose supervisor was lost, put back by another.',
      width: 12,
      bars: true,
      asks: [{ expr: `sum by (queue) (${added('unstuck_orphans_reaped_total')})`, name: '{{queue}}' }],
    }),
    lines({
      title: 'Launches undone',
      help: 'Sessions that could not be started, by the step that failed. All that the launch had done is undone.',
      width: 12,
      bars: true,
      asks: [{ expr: `sum by (step) (${added('unstuck_launch_rollbacks_total')})`, name: '{{step}}' }],
    }),
  ]
}
