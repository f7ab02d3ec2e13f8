/** Incidents: open and past, in plain words; one with its timeline and its dump in the drawer. */
import { serverNow } from './api.js'
import { KeptDump } from './dump.js'
import { useLive, useNow } from './live.js'
import { causeOf, clock, duration, OUTCOMES, shortPlace } from './text.js'
import { Badge, Drawer, Facts } from './ui.js'
import { drawerHash, jobKey, viewHash } from './url.js'
import { html } from './vendor.js'

const OVERVIEW_PAST = 5

const RED = new Set(['process', 'event_loop', 'loop'])
const toneOf = ({ subjectKind, open }) => (open ? (RED.has(subjectKind) ? 'red' : 'amber') : 'plain')

export function Incidents({ isAll }) {
  const incidents = useLive((state) => state.incidents)
  const open = incidents.filter((one) => one.open)
  const past = incidents.filter((one) => !one.open)
  const shownPast = isAll ? past : past.slice(0, OVERVIEW_PAST)
  const [Head, PastHead] = isAll ? ['h1', 'h2'] : ['h2', 'h3']
  return html`<section aria-labelledby="incidents-title">
    <div class="section-head">
      <${Head} id="incidents-title">Incidents <span class="count">${open.length} open</span><//>
      ${!isAll && past.length > OVERVIEW_PAST && html`<a href=${viewHash({ view: 'incidents' })}>All ${past.length} past ones</a>`}
    </div>
    ${open.length === 0 && html`<p class="none">None is open.</p>`}
    <ul class="incidents">${open.map((one) => html`<${Item} key=${one.incidentId} incident=${one} />`)}</ul>
    ${shownPast.length > 0 && html`<${PastHead} class="past">Past<//>`}
    <ul class="incidents">${shownPast.map((one) => html`<${Item} key=${one.incidentId} incident=${one} />`)}</ul>
  </section>`
}

function Item({ incident }) {
  const { incidentId, subject, open, since, durationMs, outcome, topFrame, phase } = incident
  const age = open ? serverNow() - Date.parse(since) : durationMs
  return html`<li class="incident tone-${toneOf(incident)}">
    <${Badge} tone=${toneOf(incident)}>${open ? 'open' : 'over'}<//>
    <a href=${drawerHash('incident', incidentId)}>${causeOf(incident).short}</a>
    <span class="subject">${subject}</span>
    <span class="muted">
      ${open ? `for ${duration(age)}` : `lasted ${duration(age)}, ${OUTCOMES[outcome] ?? outcome ?? 'over'}`}
      ${phase ? ` · in ${phase}` : ''}${topFrame ? html` · at <code title=${topFrame}>${shortPlace(topFrame)}</code>` : ''}
    </span>
    <time class="muted" dateTime=${since}>${clock(since)}</time>
  </li>`
}

export function IncidentDrawer({ id }) {
  useNow(1000)
  const incident = useLive((state) => state.incidents.find((one) => one.incidentId === id))
  const loaded = useLive((state) => state.loaded)
  if (!incident) {
    const text = loaded ? 'There is no such incident, or it is too long ago.' : 'Reading…'
    return html`<${Drawer} label="Incident" title=${id}><p class="none">${text}</p><//>`
  }
  const { subject, open, since, durationMs, phase, queue, jobId, attempt, step, stepMs, supervisor, thresholdMs } = incident
  const cause = causeOf(incident)
  const age = open ? serverNow() - Date.parse(since) : durationMs
  const badge = html`<${Badge} tone=${toneOf(incident)}>${open ? 'open' : 'over'}<//>`
  return html`<${Drawer} label="Incident" title=${cause.short} badge=${badge}>
    <p class="why">${cause.says(incident)}${open ? ' for' : '; it lasted'} ${duration(age)}${phase ? `, in ${phase}` : ''}.</p>
    <p><strong>What to do:</strong> ${cause.hint}</p>
    <h3>Timeline</h3>
    <ol class="timeline">${timelineOf(incident).map(
      ([at, text], index) => html`<li key=${index}><time>${clock(at)}</time> <span>${text}</span></li>`,
    )}</ol>
    <h3>Facts</h3>
    <${Facts} of=${[
      ['Subject', subject],
      ['Cause', incident.cause],
      ['Threshold', duration(thresholdMs)],
      ['Supervisor', supervisor && html`<a href=${drawerHash('supervisor', supervisor)}>${supervisor}</a>`],
      ['Queue', queue && html`<a href=${viewHash({ view: 'queue', queue })}>${queue}</a>`],
      ['Job', jobId && queue ? html`<a href=${drawerHash('job', jobKey(queue, jobId))}>${jobId}</a>` : jobId],
      ['Attempt', attempt],
      ['Step', step && `${step}${stepMs === undefined ? '' : ` (${duration(stepMs)})`}`],
      ['Place', incident.topFrame && html`<code>${incident.topFrame}</code>`],
      ['Found by', incident.watchdogId],
      ['Incident', incident.incidentId],
    ]} />
    ${incident.dumpId && html`<h3>Stack dump</h3><${KeptDump} id=${incident.dumpId} />`}
  <//>`
}

/** From the cause to the end, each with its moment. */
function timelineOf(incident) {
  const { since, openedAtRedisMs, watchdogId, held, heldBack, calmSinceRedisMs, dumpId, open, endedAt, outcome } = incident
  const events = [
    [since, 'the trouble began'],
    [openedAtRedisMs, `STUCK, said by ${watchdogId}`],
    ...(dumpId ? [[openedAtRedisMs, 'stack dump taken']] : []),
    ...(held ? [[openedAtRedisMs, `flapping: held until it is calm; came back ${heldBack} times`]] : []),
    ...(calmSinceRedisMs ? [[calmSinceRedisMs, 'calm since']] : []),
  ]
  if (open) return [...events, [serverNow(), 'it still holds']]
  return [...events, [endedAt, `RESUMED: ${OUTCOMES[outcome] ?? outcome}`]]
}
