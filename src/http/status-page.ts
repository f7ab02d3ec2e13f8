/** The status page: plain HTML from the read model, no script; the browser loads it again by itself. Pure. */
import type { Incident } from '../watchdog/incident.js'
import { age } from '../watchdog/report.js'
import type { HealthView } from './health-view.js'
import { breakerText, type FleetView, type SupervisorView } from './read-model.js'

const REFRESH_SECONDS = 2
const QUEUE_HEADS = 'Name,Waiting,Active,Delayed,Completed,Failed,Exhausted,Breaker,Workers,Next in line'.split(',')

/** @param fleet undefined: the store could not be read */
export function statusPage(health: HealthView, fleet: FleetView | undefined): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="${REFRESH_SECONDS}">
<title>${health.status === 'ok' ? 'ok' : health.status.toUpperCase()} · unstuck</title>
<style>${STYLE}</style>
</head>
<body>
<h1>unstuck</h1>
${banner(health)}
${section('Open incidents', ['Subject', 'Cause', 'Since', 'In', 'Job'], health.incidents.map(incidentRow))}
${section('Supervisors', ['Name', 'State', 'Beat', 'Slots', 'Loops', 'Jobs'], (fleet?.supervisors ?? []).map(supervisorRow))}
${section('Queues', QUEUE_HEADS, queueRows(fleet))}
</body>
</html>
`
}

function banner({ status, incidents, error }: HealthView): string {
  const counted = `${incidents.length} open incident${incidents.length === 1 ? '' : 's'}`
  const texts: Record<HealthView['status'], string> = {
    ok: 'OK: nothing is stuck',
    stuck: `STUCK: ${counted}`,
    wedged: `WEDGED: ${counted}`,
    unknown: `STATUS UNKNOWN: ${error ?? ''}`,
  }
  return `<p class="banner ${status}" role="${status === 'ok' ? 'status' : 'alert'}">${escapeHtml(texts[status])}</p>`
}

function section(title: string, heads: readonly string[], rows: readonly (readonly string[])[]): string {
  if (rows.length === 0) return `<h2>${title}</h2>\n<p class="none">none</p>`
  const line = (tag: string, cells: readonly string[]) =>
    `<tr>${cells.map((cell) => `<${tag}>${escapeHtml(cell)}</${tag}>`).join('')}</tr>`
  return `<h2>${title}</h2>
<table>
<thead>${line('th', heads)}</thead>
<tbody>
${rows.map((row) => line('td', row)).join('\n')}
</tbody>
</table>`
}

function incidentRow({ subject, cause, since, phase, stepMs, jobId }: Incident): string[] {
  return [
    subject,
    cause,
    since,
    phase === undefined ? '' : `${phase}${stepMs === undefined ? '' : ` (${age(stepMs)})`}`,
    jobId ?? '',
  ]
}

function supervisorRow({ name, state, heartbeatAgeMs, slots, loops, jobs }: SupervisorView): string[] {
  return [
    name,
    state,
    `${age(heartbeatAgeMs)} ago`,
    slots.map(({ queue, busy, size }) => `${queue} ${busy}/${size}`).join(', '),
    loops
      .map((loop) => `${loop.loop}${loop.queue === undefined ? '' : `:${loop.queue}`} ${loop.stale ? 'STALE' : loop.state}`)
      .join(', '),
    String(jobs.length),
  ]
}

function queueRows(fleet: FleetView | undefined): string[][] {
  return (fleet?.queues ?? []).map((facts) => [
    `${facts.queue}${facts.paused ? ' (paused)' : ''}`,
    ...[facts.waiting, facts.active, facts.delayed, facts.completed, facts.failed, facts.exhausted].map(String),
    breakerText(facts.breakersOpen),
    `${facts.eligible} (${facts.free} free)`,
    facts.headAgeMs === undefined ? '' : `waits for ${age(Math.max(0, facts.headAgeMs))}`,
  ])
}

function escapeHtml(text: string): string {
  const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' }
  return text.replace(/[&<>"']/g, (character) => entities[character] ?? character)
}

const STYLE = `
:root{color-scheme:light dark;--line:#ccc;--ok:#0a7a3d;--stuck:#8a5a00;--wedged:#b00020;--unknown:#555}
@media (prefers-color-scheme:dark){:root{--line:#444;--ok:#1f9d57;--stuck:#b07a10;--wedged:#d0354a;--unknown:#777}}
body{font:15px/1.45 system-ui,sans-serif;margin:1.5rem auto;max-width:72rem;padding:0 1rem}
h1{font-size:1.3rem}h2{font-size:1.05rem;margin-top:1.6rem}
table{border-collapse:collapse;width:100%;display:block;overflow-x:auto}
th,td{text-align:left;padding:.3rem .7rem .3rem 0;border-bottom:1px solid var(--line);vertical-align:top}
.banner{color:#fff;padding:.7rem 1rem;border-radius:.4rem;font-weight:600}
.ok{background:var(--ok)}.stuck{background:var(--stuck)}.wedged{background:var(--wedged)}.unknown{background:var(--unknown)}
.none{opacity:.7}
`
