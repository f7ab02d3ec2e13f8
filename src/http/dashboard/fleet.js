/** The fleet: a row for each supervisor, those in trouble first; and one supervisor in the drawer. */
import { post, supervisorPath } from './api.js'
import { Sparkline } from './charts.js'
import { Dumps } from './dump.js'
import { refresh, useLive } from './live.js'
import { counted, duration } from './text.js'
import { Badge, Confirm, Drawer, Facts, memo, Problem, SUPERVISOR_TONES, useAction } from './ui.js'
import { drawerHash, jobKey } from './url.js'
import { html, useState } from './vendor.js'

const SHOWN_JOBS = 3
/** More slots than this are a bar, not squares. */
const SQUARES = 16
/** Made once: made anew for each comparison it is most of the cost of a long list. */
const { compare } = new Intl.Collator('en', { numeric: true })
const RANK = { dead: 0, unreadable: 0, draining: 2, starting: 3, running: 4, stopped: 5 }

const isStale = ({ loops }) => loops.some(({ stale }) => stale)
const rankOf = (supervisor) => (isStale(supervisor) ? 1 : (RANK[supervisor.state] ?? 0))

export function Fleet() {
  const supervisors = useLive((state) => state.supervisors)
  const history = useLive((state) => state.history)
  const [filter, setFilter] = useState('')
  const matches = ({ name, group, host }) => [name, group, host].some((text) => text?.includes(filter))
  const sorted = supervisors.toSorted((one, other) => rankOf(one) - rankOf(other) || compare(one.name, other.name))
  return html`<section aria-labelledby="fleet-title">
    <div class="section-head">
      <h2 id="fleet-title">Fleet <span class="count">${supervisors.length}</span></h2>
      ${
        supervisors.length > 8 &&
        html`<label class="filter">Filter <input type="search" value=${filter} onInput=${(event) => setFilter(event.target.value)} /></label>`
      }
    </div>
    ${!sorted.some(matches) && html`<p class="none">${sorted.length === 0 ? 'No supervisor has shown itself yet.' : 'None matches.'}</p>`}
    <ul class="fleet">${sorted.map((supervisor) => html`<${Row} key=${supervisor.name} supervisor=${supervisor} history=${history} isHidden=${!matches(supervisor)} />`)}</ul>
  </section>`
}

/** Hidden rather than taken out: to make hundreds of rows anew is what is slow. Its parts do not know of it. */
const Row = memo(
  ({ supervisor, history, isHidden }) =>
    html`<li class="supervisor state-${supervisor.state} ${isStale(supervisor) ? 'is-stale' : ''}" hidden=${isHidden}>
      <${RowParts} supervisor=${supervisor} history=${history} />
    </li>`,
)

const RowParts = memo(({ supervisor, history }) => {
  const { name, state, heartbeatAgeMs, group, slots, jobs, loops } = supervisor
  return html`<div class="who">
      <a class="name" href=${drawerHash('supervisor', name)}>${name}</a>
      <${Badge} tone=${SUPERVISOR_TONES[state]}>${state}<//>
      <span class="muted">${state === 'dead' ? 'last beat' : 'beat'} ${duration(heartbeatAgeMs)} ago${group ? ` · ${group}` : ''}</span>
    </div>
    <ul class="loops">${loops.map((loop) => html`<${Loop} key=${loop.loop + (loop.queue ?? '')} loop=${loop} name=${name} history=${history} />`)}</ul>
    <div class="work">
      ${slots.map((slot) => html`<${Slots} key=${slot.queue} slot=${slot} jobs=${jobs} />`)}
      <ul class="jobs">
        ${jobs.slice(0, SHOWN_JOBS).map((job) => html`<${RunningJob} key=${job.queue + job.id} job=${job} />`)}
        ${jobs.length > SHOWN_JOBS && html`<li class="muted">and ${jobs.length - SHOWN_JOBS} more</li>`}
      </ul>
    </div>`
})

function Loop({ loop, name, history }) {
  const { loop: kind, queue, state, phase, lagMs, thresholdMs, stale } = loop
  const title = queue ? `${kind} ${queue}` : kind
  const values = history?.loops.get(`${name}/${kind}/${queue ?? ''}`)
  return html`<li class=${stale ? 'stale' : ''}>
    <span class="loop-name">${title}</span>
    <${Sparkline} values=${values} top=${thresholdMs} label="Lag of ${title} over 15 minutes, now ${duration(lagMs)}" tone=${stale ? 'red' : ''} />
    <span class="loop-state">${stale ? html`<${Badge} tone="red">stale ${duration(lagMs)}<//>` : duration(lagMs)}</span>
    <span class="muted phase">${phase && phase !== 'idle' ? phase : state}</span>
  </li>`
}

function Slots({ slot, jobs }) {
  const { queue, size, busy, eligible } = slot
  const label = `${queue}: ${busy} of ${size} slots busy${eligible ? '' : ', takes no more'}`
  const own = jobs.filter((job) => job.queue === queue)
  return html`<div class="slots">
    <span class="slots-name">${queue} <span class="muted">${busy}/${size}</span></span>
    ${
      size <= SQUARES
        ? html`<span class="squares" role="img" aria-label=${label}>${Array.from({ length: size }, (_, at) => html`<i key=${at} class=${at < busy ? `busy${own[at]?.launching ? ' launching' : ''}` : ''}></i>`)}</span>`
        : html`<meter min="0" max=${size} value=${busy} aria-label=${label}></meter>`
    }
  </div>`
}

function RunningJob({ job }) {
  const { queue, id, step, stepMs, runningMs, launching } = job
  return html`<li>
    <a href=${drawerHash('job', jobKey(queue, id))}>${queue}/${id}</a>
    <span class="muted"> ${launching ? 'launching' : (step ?? 'running')} ${duration(stepMs ?? runningMs)}</span>
  </li>`
}

export function SupervisorDrawer({ name }) {
  const supervisor = useLive((state) => state.supervisors.find((one) => one.name === name))
  const history = useLive((state) => state.history)
  const loaded = useLive((state) => state.loaded)
  if (!supervisor) {
    const text = loaded ? `There is no supervisor ${name} now, neither alive nor lately dead.` : 'Reading…'
    return html`<${Drawer} label="Supervisor" title=${name}><p class="none">${text}</p><//>`
  }
  const { state, heartbeatAgeMs, incarnation, group, host, pid, version, uptimeMs, loops, slots, jobs } = supervisor
  const badge = html`<${Badge} tone=${SUPERVISOR_TONES[state]}>${state}<//>`
  return html`<${Drawer} label="Supervisor" title=${name} badge=${badge}>
    <${Facts} of=${[
      ['Last beat', `${duration(heartbeatAgeMs)} ago`],
      ['Up for', uptimeMs === undefined ? undefined : duration(uptimeMs)],
      ['Group', group],
      ['Host', host],
      ['Process', pid],
      ['Version', version],
      ['Incarnation', incarnation],
    ]} />
    <${SupervisorActions} name=${name} state=${state} />
    <h3>Loops</h3>
    <ul class="loops">${loops.map((loop) => html`<${Loop} key=${loop.loop + (loop.queue ?? '')} loop=${loop} name=${name} history=${history} />`)}</ul>
    <h3>Slots</h3>
    ${slots.map((slot) => html`<${Slots} key=${slot.queue} slot=${slot} jobs=${jobs} />`)}
    <h3>Runs now <span class="count">${jobs.length}</span></h3>
    ${jobs.length === 0 ? html`<p class="none">Nothing.</p>` : html`<${JobsOfSupervisor} jobs=${jobs} />`}
  <//>`
}

function JobsOfSupervisor({ jobs }) {
  return html`<table class="plain-table">
    <thead><tr><th>Job</th><th>Thread</th><th>Try</th><th>Step</th><th>Runs</th><th>Last sign</th></tr></thead>
    <tbody>${jobs.map(
      ({ queue, id, thread, attempt, step, stepMs, runningMs, silentMs }) => html`<tr key=${queue + id}>
        <td><a href=${drawerHash('job', jobKey(queue, id))}>${queue}/${id}</a></td>
        <td>${thread || '–'}</td><td>${attempt}</td>
        <td>${step ? `${step} (${duration(stepMs)})` : '–'}</td>
        <td>${duration(runningMs)}</td><td>${duration(silentMs)} ago</td>
      </tr>`,
    )}</tbody>
  </table>`
}

function SupervisorActions({ name, state }) {
  const dump = useAction()
  const drain = useAction()
  const [dumps, setDumps] = useState()
  const [isAsking, setAsking] = useState(false)
  const isThere = state === 'running' || state === 'starting' || state === 'draining'
  const takeDump = async () => {
    const answer = await dump.run(() => post(`${supervisorPath(name)}/dump`))
    if (answer) setDumps(answer.dumps)
  }
  const onDrain = async () => {
    if ((await drain.run(() => post(`${supervisorPath(name)}/drain`))) === undefined) return
    setAsking(false)
    refresh()
  }
  return html`<div>
    <p class="buttons">
      <button disabled=${dump.pending || !isThere} onClick=${takeDump}>${dump.pending ? 'Looking…' : 'Dump its threads'}</button>
      <button disabled=${state !== 'running'} onClick=${() => setAsking(true)}>Drain</button>
    </p>
    <${Problem} error=${dump.error} />
    ${dumps && html`<h3>${counted(dumps.length, 'dump')}</h3><${Dumps} dumps=${dumps} />`}
    ${
      isAsking &&
      html`<${Confirm} title="Drain ${name}?" verb="Drain" pending=${drain.pending} error=${drain.error} onConfirm=${onDrain} onClose=${() => setAsking(false)}>
        <p>It takes no more jobs, finishes what runs, and leaves. Its queues go on under other supervisors, when there are any.</p>
      <//>`
    }
  </div>`
}
