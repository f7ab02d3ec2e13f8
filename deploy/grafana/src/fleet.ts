/** The fleet: who lives, whether the loops go round, how full the slots are, and what the processes cost. */
import type { Dashboard } from '@grafana/grafana-foundation-sdk/dashboard'
import { BAD, board, lines, NEEDED, number, rows } from './panels.js'

/** Only processes of ours, with their role: others that Prometheus scrapes have the same process metrics. */
const ofOurs = '* on (instance, job) group_left (role) unstuck_up'
/** Each watchdog shows the same gauges. */
const perLoop = 'max by (supervisor, loop, queue)'

export function fleet(): Dashboard {
  return board({
    uid: 'unstuck-fleet',
    title: 'unstuck: fleet',
    help: 'Who lives, whether the loops go round, how full the slots are, and what the processes cost.',
    sections: [
      { title: 'Now', panels: [...now(), ...believable()] },
      { title: 'Signs of life', panels: signsOfLife() },
      { title: 'Capacity', panels: capacity() },
      { title: 'Processes', panels: [...processes(), ...whoRuns()] },
    ],
  })
}

function now() {
  return [
    number({
      title: 'Supervisors',
      help: 'Supervisors that live: those with a beat, without those found dead. 0 also while no watchdog can read Redis.',
      width: 4,
      levels: NEEDED,
      expr: 'clamp_min((count(count by (supervisor) (unstuck_heartbeat_age_seconds)) or vector(0)) - (max(unstuck_stuck{cause="process_dead"}) or vector(0)), 0)',
    }),
    number({
      title: 'Dead',
      help: 'Supervisors that went silent without a goodbye and have not come back. Forgotten after watchdog.goneAfterMs.',
      width: 4,
      levels: BAD,
      expr: 'max(unstuck_stuck{cause="process_dead"}) or vector(0)',
    }),
    number({
      title: 'Open incidents',
      help: 'All that is stuck now. The dashboard "unstuck: incidents" has the causes.',
      width: 4,
      levels: BAD,
      expr: 'sum(max by (subject_kind, cause) (unstuck_stuck)) or vector(0)',
    }),
  ]
}

function believable() {
  return [
    number({
      title: 'Slots in use',
      help: 'Share of all slots that run a job.',
      width: 4,
      unit: 'percentunit',
      expr: 'sum(unstuck_slots{state="busy"}) / (sum(unstuck_slots) > 0) or vector(0)',
    }),
    number({
      title: 'Watchdogs',
      help: 'Watchdogs that Prometheus reaches. With one, nobody watches it; with none, nothing here can be believed.',
      width: 4,
      levels: ['red', [1, 'orange'], [2, 'green']],
      expr: 'sum(unstuck_up{role="watchdog"}) or vector(0)',
    }),
    number({
      title: 'Redis',
      help: 'Whether the watchdogs can read Redis. While one cannot, it judges nobody.',
      width: 4,
      levels: NEEDED,
      words: { '0': 'unreachable', '1': 'reached' },
      expr: 'min(unstuck_redis_up) or vector(0)',
    }),
  ]
}

function signsOfLife() {
  return [
    lines({
      title: 'Age of the last beat',
      help: 'The ten supervisors with the oldest beats. Beyond heartbeat.timeoutMs (5 s unless configured) one is dead.',
      width: 12,
      unit: 's',
      asks: [{ expr: 'topk(10, max by (supervisor) (unstuck_heartbeat_age_seconds))', name: '{{supervisor}}' }],
    }),
    lines({
      title: 'Poll lag',
      help: 'The ten loops that made no progress for longest, past what they may block for. Beyond loops.pollStaleThresholdMs (60 s unless configured) one is stale.',
      width: 12,
      unit: 's',
      asks: [{ expr: `topk(10, ${perLoop} (unstuck_poll_lag_seconds))`, name: '{{supervisor}} {{loop}} {{queue}}' }],
    }),
    rows({
      title: 'Loops',
      help: 'The fifty loops that made no progress for longest.',
      width: 16,
      labels: ['supervisor', 'loop', 'queue'],
      worst: 'Lag',
      columns: [
        { expr: `topk(50, ${perLoop} (unstuck_poll_lag_seconds))`, name: 'Lag', unit: 's' },
        {
          expr: `${perLoop} (unstuck_poll_stale) and topk(50, ${perLoop} (unstuck_poll_lag_seconds))`,
          name: 'Stale',
          levels: BAD,
        },
      ],
    }),
    lines({
      title: 'Stale loops',
      help: 'Loops past their threshold. fetch takes no jobs any more; reconcile takes no orphans back.',
      width: 8,
      levels: BAD,
      asks: [{ expr: `sum by (loop) (${perLoop} (unstuck_poll_stale))`, name: '{{loop}}' }],
    }),
  ]
}

function capacity() {
  return [
    lines({
      title: 'Slots in use',
      help: 'Running jobs by queue, of all supervisors.',
      width: 8,
      stacked: true,
      asks: [{ expr: 'sum by (queue) (unstuck_slots{state="busy"})', name: '{{queue}}' }],
    }),
    lines({
      title: 'Free slots',
      help: 'Places where a job could start at once. None for long, while jobs wait: add supervisors.',
      width: 8,
      stacked: true,
      asks: [{ expr: 'sum by (queue) (unstuck_slots{state="free"})', name: '{{queue}}' }],
    }),
    lines({
      title: 'Threads',
      help: 'A zombie is in native code and cannot be ended; its supervisor restarts when they take all places.',
      width: 8,
      asks: [{ expr: 'sum by (state) (unstuck_threads)', name: '{{state}}' }],
    }),
  ]
}

function processes() {
  return [
    lines({
      title: 'CPU',
      help: 'Cores in use, of the ten processes that use most.',
      width: 6,
      asks: [
        {
          expr: `topk(10, rate(process_cpu_seconds_total[$__rate_interval]) ${ofOurs})`,
          name: '{{role}} {{instance}}',
        },
      ],
    }),
    lines({
      title: 'Memory',
      help: 'Resident memory, of the ten processes with most.',
      width: 6,
      unit: 'bytes',
      asks: [{ expr: `topk(10, process_resident_memory_bytes ${ofOurs})`, name: '{{role}} {{instance}}' }],
    }),
    lines({
      title: 'Lag of the main event loop',
      help: 'The 99th percentile, of the ten processes with most. No job runs there: seconds mean a machine that is too small or swaps.',
      width: 6,
      unit: 's',
      asks: [{ expr: `topk(10, nodejs_eventloop_lag_p99_seconds ${ofOurs})`, name: '{{role}} {{instance}}' }],
    }),
  ]
}

function whoRuns() {
  return [
    lines({
      title: 'Main event loop stands still',
      help: 'Said by a thread of its own, the ten with most. Beyond heartbeat.loopBlockedMs (5 s unless configured) it is blocked, and the other series of that process stand still too.',
      width: 6,
      unit: 's',
      asks: [{ expr: 'topk(10, unstuck_supervisor_main_age_seconds)', name: '{{instance}}' }],
    }),
    rows({
      title: 'Versions',
      help: 'Processes by version; more than one row outside of a deployment means that somebody was left behind.',
      width: 12,
      labels: ['role', 'version', 'node'],
      worst: 'Processes',
      columns: [
        {
          expr: 'count by (role, version, node) (unstuck_build_info * on (instance, job) group_left (role) unstuck_up)',
          name: 'Processes',
        },
      ],
    }),
    lines({
      title: 'Processes',
      help: 'Processes that Prometheus reaches, by role.',
      width: 12,
      asks: [{ expr: 'sum by (role) (unstuck_up)', name: '{{role}}' }],
    }),
  ]
}
