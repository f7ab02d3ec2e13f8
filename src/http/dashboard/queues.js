/** Queues: a card for each on the overview, and one with its curve, its actions and its jobs. */
import { post, queuePath } from './api.js'
import { DepthChart, Sparkline } from './charts.js'
import { JobList } from './jobs.js'
import { refresh, useLive } from './live.js'
import { counted, duration, number } from './text.js'
import { Badge, Confirm, Facts, memo, useAction } from './ui.js'
import { viewHash } from './url.js'
import { html, useEffect, useState } from './vendor.js'

/** Why it may stand still, each said in words. */
function QueueBadges({ queue, isStuck }) {
  const { paused, breakersOpen = [], limitedMs, maxed, eligible } = queue
  const groups = breakersOpen.filter((group) => group !== '')
  const breaker =
    groups.length === 0 ? 'breaker open' : `breaker open: ${groups.length > 3 ? `${groups.length} groups` : groups.join(', ')}`
  return html`<span class="badges">
    ${isStuck && html`<${Badge} tone="amber">stuck<//>`}
    ${paused && html`<${Badge} tone="plain">paused<//>`}
    ${breakersOpen.length > 0 && html`<${Badge} tone="red">${breaker}<//>`}
    ${limitedMs > 0 && html`<${Badge}>rate limit, ${duration(limitedMs)}<//>`}
    ${maxed && html`<${Badge}>at its own limit<//>`}
    ${eligible === 0 && html`<${Badge} tone="amber">no supervisor<//>`}
  </span>`
}

const slotsOf = (supervisors, name) =>
  supervisors
    .filter(({ state }) => state === 'running')
    .flatMap(({ slots }) => slots.filter(({ queue, eligible }) => queue === name && eligible))
    .reduce((sum, { size, busy }) => ({ size: sum.size + size, free: sum.free + Math.max(0, size - busy) }), {
      size: 0,
      free: 0,
    })

const stuckNames = (health) => new Set((health?.queues ?? []).filter(({ stuck }) => stuck).map(({ name }) => name))

export function Queues() {
  const queues = useLive((state) => state.queues)
  const supervisors = useLive((state) => state.supervisors)
  const history = useLive((state) => state.history)
  const health = useLive((state) => state.health)
  const stuck = stuckNames(health)
  return html`<section aria-labelledby="queues-title">
    <h2 id="queues-title">Queues <span class="count">${queues.length}</span></h2>
    ${queues.length === 0 && html`<p class="none">No queue is configured, served or filled yet.</p>`}
    <ul class="cards">${queues.map(
      (queue) =>
        html`<${Card} key=${queue.queue} queue=${queue} isStuck=${stuck.has(queue.queue)} supervisors=${supervisors} history=${history} />`,
    )}</ul>
  </section>`
}

const Card = memo(({ queue, isStuck, supervisors, history }) => {
  const { queue: name, waiting, active, delayed, exhausted, headAgeMs } = queue
  const { size, free } = slotsOf(supervisors, name)
  const past = history?.queues.get(name)
  const link = (status) => viewHash({ view: 'queue', queue: name, status })
  return html`<li class="card ${isStuck ? 'is-stuck' : ''}">
    <h3><a href=${viewHash({ view: 'queue', queue: name })}>${name}</a> <${QueueBadges} queue=${queue} isStuck=${isStuck} /></h3>
    <${Sparkline} values=${past?.waiting} top=${4} label="Jobs waiting in ${name} over 15 minutes, now ${waiting}" tone="wide" />
    <div class="numbers">
      <a href=${link('waiting')}><b>${number(waiting)}</b> waiting</a>
      <a href=${link('running')}><b>${number(active)}</b> running</a>
      <a href=${link('backing-off')}><b>${number(delayed)}</b> delayed</a>
      <a href=${link('exhausted')} class=${exhausted > 0 ? 'bad' : ''}><b>${number(exhausted)}</b> exhausted</a>
    </div>
    <p class="muted">${headAgeMs === undefined ? 'Nobody waits' : `The next in line waits for ${duration(headAgeMs)}`} · ${free} of ${counted(size, 'slot')} free</p>
  </li>`
})

export function QueueView({ name, status }) {
  const queue = useLive((state) => state.queues.find((one) => one.queue === name))
  const supervisors = useLive((state) => state.supervisors)
  const history = useLive((state) => state.history)
  const health = useLive((state) => state.health)
  const loaded = useLive((state) => state.loaded)
  if (!queue) {
    return html`<section><h1>${name}</h1><p class="none">${loaded ? `There is no queue ${name}.` : 'Reading…'}</p></section>`
  }
  const { size, free } = slotsOf(supervisors, name)
  const { waiting, active, delayed, completed, failed, exhausted, permanent, eligible, headAgeMs } = queue
  return html`<section aria-labelledby="queue-title">
    <div class="section-head">
      <h1 id="queue-title">${name} <${QueueBadges} queue=${queue} isStuck=${stuckNames(health).has(name)} /></h1>
      <${QueueActions} queue=${queue} />
    </div>
    <${Facts} of=${[
      ['Waiting', number(waiting)],
      ['Next in line waits for', headAgeMs === undefined ? 'nobody waits' : duration(headAgeMs)],
      ['Running', number(active)],
      ['Free slots', `${free} of ${size}`],
      ['Supervisors', eligible],
      ['Delayed', number(delayed)],
      ['Exhausted', number(exhausted)],
      ['Failed for good', number(permanent ?? 0)],
      ['Failed in all', number(failed)],
      ['Completed', number(completed)],
    ]} />
    <${DepthChart} history=${history} name=${name} />
    <${JobList} queue=${queue} status=${status ?? likelyStatus(queue)} />
  </section>`
}

/** What a person most likely wants to see. */
function likelyStatus({ exhausted, active }) {
  if (exhausted > 0) return 'exhausted'
  return active > 0 ? 'running' : 'waiting'
}

function QueueActions({ queue }) {
  const { queue: name, paused, exhausted } = queue
  const [asking, setAsking] = useState()
  const close = () => setAsking(undefined)
  return html`<p class="buttons">
    <button onClick=${() => setAsking('pause')}>${paused ? 'Resume' : 'Pause'}</button>
    <button disabled=${exhausted === 0} onClick=${() => setAsking('reset')}>Reset exhausted${exhausted > 0 ? ` (${number(exhausted)})` : ''}</button>
    ${asking === 'pause' && html`<${PauseConfirm} name=${name} paused=${paused} onClose=${close} />`}
    ${asking === 'reset' && html`<${ResetConfirm} name=${name} exhausted=${exhausted} onClose=${close} />`}
  </p>`
}

function PauseConfirm({ name, paused, onClose }) {
  const action = useAction()
  const verb = paused ? 'Resume' : 'Pause'
  const act = async () => {
    if ((await action.run(() => done(post(`${queuePath(name)}/${verb.toLowerCase()}`)))) === undefined) return
    onClose()
    refresh()
  }
  return html`<${Confirm} title="${verb} ${name}?" verb=${verb} pending=${action.pending} error=${action.error} onConfirm=${act} onClose=${onClose}>
    <p>${paused ? 'Its jobs are taken again.' : 'It holds its jobs; what runs goes on. A paused queue is no incident.'}</p>
  <//>`
}

/** Asks first what it would do: the count and the pace come from the server. */
function ResetConfirm({ name, exhausted, onClose }) {
  const action = useAction()
  const [plan, setPlan] = useState()
  const path = `${queuePath(name)}/reset`
  useEffect(() => {
    void action.run(() => post(path, { dryRun: true })).then((answer) => answer && setPlan(answer))
  }, [])
  const act = async () => {
    if ((await action.run(() => done(post(path, { reason: 'dashboard' })))) === undefined) return
    onClose()
    refresh()
  }
  const jobs = plan?.jobs ?? exhausted
  return html`<${Confirm} title="Reset ${counted(jobs, 'exhausted job')} of ${name}?" verb=${plan && `Reset ${counted(jobs, 'job')}`} pending=${action.pending} error=${action.error} onConfirm=${act} onClose=${onClose}>
    <p>Each gets its full ladder of attempts again.</p>
    ${plan && html`<p>They are put back at <strong>${plan.perSecond} a second</strong>: ${counted(jobs, 'job')} in about <strong>${duration((jobs / plan.perSecond) * 1000)}</strong>.</p>`}
  <//>`
}

/** An order without an answer is done all the same. */
const done = async (promise) => (await promise) ?? {}
