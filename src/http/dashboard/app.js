/** The page: what is wrong on top, then queues, fleet and incidents; one thing at a time in the drawer beside them. */
import { Banner } from './banner-view.js'
import { Find, SearchBox } from './find.js'
import { Fleet, SupervisorDrawer } from './fleet.js'
import { IncidentDrawer, Incidents } from './incidents.js'
import { JobDrawer } from './job-drawer.js'
import { startLive, useLive } from './live.js'
import { Queues, QueueView } from './queues.js'
import { clock, number } from './text.js'
import { memo } from './ui.js'
import { usePlace, viewHash } from './url.js'
import { html, render, useEffect } from './vendor.js'

function App() {
  const place = usePlace()
  const isOpen = Boolean(place.job ?? place.incident ?? place.supervisor ?? place.find)
  return html`<${PageTitle} />
    <a class="skip" href="#main" onClick=${skipToMain}>Skip to the content</a>
    <${TopBar} view=${place.view} />
    <${Banner} />
    <div class="body ${isOpen ? 'with-drawer' : ''}">
      <main id="main" tabindex="-1"><${View} view=${place.view} queue=${place.queue} status=${place.status} /></main>
      <${OpenDrawer} place=${place} />
    </div>`
}

function PageTitle() {
  const status = useLive((state) => (state.loaded ? (state.health?.status ?? 'unknown') : ''))
  useEffect(() => {
    document.title = status === '' || status === 'ok' ? 'unstuck' : `${status.toUpperCase()} · unstuck`
  }, [status])
  return null
}

/** The address behind # is taken by what is shown. */
function skipToMain(event) {
  event.preventDefault()
  document.getElementById('main')?.focus()
}

function TopBar({ view }) {
  const links = [
    [undefined, 'Overview'],
    ['incidents', 'Incidents'],
  ]
  return html`<header class="topbar">
    <a class="brand" href=${viewHash({})}><img src="/assets/icon.svg" alt="" width="24" height="24" />unstuck</a>
    <nav aria-label="Main">${links.map(
      ([name, text]) =>
        html`<a key=${text} href=${viewHash({ view: name })} aria-current=${view === name ? 'page' : undefined}>${text}</a>`,
    )}<a href="/queues">bull-board</a></nav>
    <${SearchBox} />
    <${Connection} />
  </header>`
}

const CONNECTIONS = { connecting: 'connecting…', live: 'live', lost: 'connection lost, trying again' }

function Connection() {
  const connection = useLive((state) => state.connection)
  const readAt = useLive((state) => (state.connection === 'lost' ? state.readAt : undefined))
  return html`<p class="connection ${connection}" role="status"><i aria-hidden="true"></i>${CONNECTIONS[connection]}${readAt ? html`<span>, as of ${clock(readAt)}</span>` : ''}</p>`
}

/** What lies beside it in the drawer does not change it. */
const View = memo(({ view, queue, status }) => {
  if (view === 'queue' && queue) return html`<${QueueView} key=${queue} name=${queue} status=${status} />`
  if (view === 'incidents') return html`<${Incidents} isAll=${true} />`
  return html`<h1 class="visually-hidden">Overview</h1><${Summary} /><${Queues} /><${Fleet} /><${Incidents} isAll=${false} />`
})

/** Keyed by what they show, so that another one starts afresh and takes the focus. */
function OpenDrawer({ place: { job, incident, supervisor, find } }) {
  if (job) return html`<${JobDrawer} key=${`job ${job}`} jobKey=${job} />`
  if (incident) return html`<${IncidentDrawer} key=${`incident ${incident}`} id=${incident} />`
  if (supervisor) return html`<${SupervisorDrawer} key=${`supervisor ${supervisor}`} name=${supervisor} />`
  return find ? html`<${Find} key=${`find ${find}`} id=${find} />` : null
}

const sum = (list, pick) => list.reduce((total, one) => total + pick(one), 0)

function Summary() {
  const supervisors = useLive((state) => state.supervisors)
  const queues = useLive((state) => state.queues)
  const health = useLive((state) => state.health)
  const loaded = useLive((state) => state.loaded)
  const alive = supervisors.filter(({ state }) => state === 'running' || state === 'draining' || state === 'starting')
  const dead = supervisors.filter(({ state }) => state === 'dead' || state === 'unreadable').length
  const slots = alive.flatMap((one) => one.slots)
  const exhausted = sum(queues, (one) => one.exhausted)
  const open = health?.incidents.length
  const tiles = [
    ['Open incidents', open === undefined ? '?' : number(open), open > 0 ? 'bad' : ''],
    ['Supervisors', dead > 0 ? `${alive.length} up, ${dead} dead` : number(alive.length), dead > 0 ? 'bad' : ''],
    ['Busy slots', `${number(sum(slots, ({ busy }) => busy))} of ${number(sum(slots, ({ size }) => size))}`, ''],
    ['Waiting', number(sum(queues, (one) => one.waiting)), ''],
    ['Exhausted', number(exhausted), exhausted > 0 ? 'bad' : ''],
  ]
  const status = !loaded ? 'reading' : (health?.status ?? 'unknown')
  const words = {
    ok: '✓ Nothing is stuck',
    stuck: '▲ Something is stuck',
    wedged: '■ Something is wedged',
    unknown: '? Status unknown',
    reading: 'Reading…',
  }
  return html`<div class="summary">
    <p class="verdict ${status}">${words[status]}</p>
    <dl>${tiles.map(([name, value, tone]) => html`<div key=${name} class=${tone}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>
  </div>`
}

startLive()
const root = document.getElementById('app')
root.replaceChildren()
render(html`<${App} />`, root)
