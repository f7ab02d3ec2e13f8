/** One job: where it stands and why, and the orders that put it right. */
import { get, jobPath, post, serverNow, supervisorPath } from './api.js'
import { Dumps } from './dump.js'
import { jobChanged } from './jobs.js'
import { refresh, useLive, useNow } from './live.js'
import { clock, duration } from './text.js'
import { Badge, Confirm, Drawer, Facts, Problem, STATUS_TONES, useAction } from './ui.js'
import { drawerHash, jobOfKey } from './url.js'
import { html, useEffect, useRef, useState } from './vendor.js'

const CANCELLABLE = new Set(['waiting', 'scheduled', 'backing-off', 'launching', 'running'])

/** The job as the server knows it, read again with each beat and when asked to. */
function useJob(queue, id) {
  const beat = useLive((state) => state.beat)
  const [answer, setAnswer] = useState({})
  const round = useRef(0)
  const read = async () => {
    const own = ++round.current
    const next = await get(jobPath(queue, id)).then(
      (job) => ({ job }),
      (error) => ({ error: error.message, isGone: error.status === 404 }),
    )
    if (own !== round.current) return
    // What cannot be read now stays as it was, with the reason beside it.
    setAnswer((before) => (next.job || next.isGone ? next : { ...before, error: next.error }))
  }
  useEffect(() => {
    // A job that is not there would be asked for in vain with every beat.
    if (!answer.isGone) void read()
  }, [queue, id, beat])
  return { ...answer, read }
}

export function JobDrawer({ jobKey }) {
  const { queue, id } = jobOfKey(jobKey)
  const { job, error, read } = useJob(queue, id)
  if (!job) {
    return html`<${Drawer} label="Job of ${queue}" title=${id}><p class="none" role="status">${error ?? 'Reading…'}</p><//>`
  }
  const badge = html`<${Badge} tone=${STATUS_TONES[job.status]}>${job.status}<//>`
  return html`<${Drawer} label="Job of ${queue}" title=${id} badge=${badge}>
    ${error && html`<p class="problem" role="status">Not up to date: ${error}</p>`}
    <p class="why">${job.why}</p>
    <${Countdown} job=${job} />
    <${Attempts} job=${job} />
    <${JobActions} job=${job} onChange=${read} />
    ${job.lastError && html`<h3>Last error</h3><pre class="error-text">${job.lastError}</pre>`}
    <h3>Facts</h3>
    <${Facts} of=${[
      ['Name', job.name === '__default__' ? undefined : job.name],
      ['Group', job.group],
      ['Last failure', job.lastFailureAt && clock(job.lastFailureAt)],
      ['Supervisor', job.supervisor && html`<a href=${drawerHash('supervisor', job.supervisor)}>${job.supervisor}</a>`],
      ['Thread', job.slot],
      ['Step', job.step],
      ['Last sign of life', job.heartbeatAgeMs === undefined ? undefined : `${duration(job.heartbeatAgeMs)} ago`],
      ['Before it in line', job.ahead],
      ['Fence', job.fence],
    ]} />
    ${job.output && html`<h3>Last output of its session</h3><pre class="output" tabindex="0" role="region" aria-label="Last output of its session">${job.output}</pre>`}
  <//>`
}

/** n of m as a row of pips, with the same in words. */
function Attempts({ job }) {
  const { attemptsMade, attemptsMax, resets } = job
  const pips = attemptsMax <= 20
  return html`<p class="attempts">
    <strong>Attempts ${attemptsMade} of ${attemptsMax}</strong>
    ${pips && html`<span class="pips" aria-hidden="true">${Array.from({ length: attemptsMax }, (_, at) => html`<i key=${at} class=${at < attemptsMade ? 'used' : ''}></i>`)}</span>`}
    <span class="muted">${resets === 1 ? '1 reset' : `${resets} resets`}</span>
  </p>`
}

function Countdown({ job }) {
  useNow(1000)
  const [what, at] = job.cooldownUntil ? ['Put back', job.cooldownUntil] : ['May run', job.retryAt]
  const left = at ? Date.parse(at) - serverNow() : Number.NaN
  if (Number.isNaN(left)) return null
  return html`<p class="countdown">${what} ${left > 0 ? html`in <strong>${duration(left + 999)}</strong>, at ${clock(at)}` : html`<strong>now</strong>`}</p>`
}

function JobActions({ job, onChange }) {
  const { queue, id, status, attemptsMade, supervisor, slot } = job
  const reset = useAction()
  const dump = useAction()
  const [isAsking, setAsking] = useState(false)
  const [dumps, setDumps] = useState()
  const isResettable = attemptsMade > 0 || status === 'exhausted'
  const changed = () => {
    onChange()
    jobChanged()
    refresh()
  }
  const onReset = async () => {
    if (await reset.run(() => post(jobPath(queue, id, '/reset'), { reason: 'dashboard' }).then(() => true))) changed()
  }
  const onDump = async () => {
    const thread = slot ? { thread: `${queue}:${slot}` } : {}
    const answer = await dump.run(() => post(`${supervisorPath(supervisor)}/dump`, thread))
    if (answer) setDumps(answer.dumps)
  }
  return html`<div>
    <p class="buttons">
      ${isResettable && html`<button class="primary" disabled=${reset.pending} onClick=${onReset}>${reset.pending ? 'Resetting…' : 'Reset attempts'}</button>`}
      ${supervisor && html`<button disabled=${dump.pending} onClick=${onDump}>${dump.pending ? 'Looking…' : 'Dump its thread'}</button>`}
      ${CANCELLABLE.has(status) && html`<button class="danger" onClick=${() => setAsking(true)}>Cancel job</button>`}
    </p>
    <${Problem} error=${reset.error ?? dump.error} />
    ${dumps && html`<${Dumps} dumps=${dumps} />`}
    ${isAsking && html`<${CancelConfirm} job=${job} onDone=${changed} onClose=${() => setAsking(false)} />`}
  </div>`
}

function CancelConfirm({ job, onDone, onClose }) {
  const action = useAction()
  const act = async () => {
    if (!(await action.run(() => post(jobPath(job.queue, job.id, '/cancel'), { reason: 'dashboard' }).then(() => true)))) return
    onClose()
    onDone()
  }
  const runs = job.status === 'running' || job.status === 'launching'
  return html`<${Confirm} title="Cancel ${job.queue}/${job.id}?" verb="Cancel the job" tone="danger" pending=${action.pending} error=${action.error} onConfirm=${act} onClose=${onClose}>
    <p>${runs ? 'It is ended where it runs, and not tried again.' : 'It will not run.'} A reset by hand can bring it back.</p>
  <//>`
}
