/** The jobs of a queue, page by page as one scrolls. Only the rows in sight are in the document: there may be thousands. */
import { get, queuePath, serverNow } from './api.js'
import { useLive } from './live.js'
import { clock, counted, duration, number } from './text.js'
import { Badge, STATUS_TONES } from './ui.js'
import { drawerHash, go, jobKey, viewHash } from './url.js'
import { html, useEffect, useRef, useState } from './vendor.js'

const STATUSES = ['waiting', 'running', 'backing-off', 'scheduled', 'exhausted', 'failed', 'cancelled', 'completed']
const PAGE = 200
const ROW_PX = 41
/** Rows beyond the edge, so that fast scrolling shows no gap. */
const SPARE_ROWS = 8
/** Longer lists are not read again by themselves, only after an order. */
const FRESH_UP_TO = PAGE

const changed = new EventTarget()

/** Some job of the page was changed: lists read again. */
export function jobChanged() {
  changed.dispatchEvent(new Event('change'))
}

/** Jobs by page, with a way to read the next one. What comes late for another list is dropped. */
function useJobs(queue, status) {
  const [list, setList] = useState({ jobs: [], cursor: undefined, isRead: false })
  const current = useRef(list)
  const round = useRef(0)
  const show = (next) => {
    current.current = next
    setList(next)
  }
  const page = (cursor) =>
    get(`${queuePath(queue)}/jobs?status=${status}&limit=${PAGE}${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ''}`)

  const read = async (count) => {
    const own = ++round.current
    let jobs = []
    let cursor
    try {
      do {
        const answer = await page(cursor)
        if (own !== round.current) return
        jobs = [...jobs, ...answer.jobs]
        cursor = answer.cursor
      } while (cursor && jobs.length < count)
      show({ jobs, cursor, isRead: true })
    } catch (error) {
      if (own === round.current) show({ ...current.current, isRead: true, error: error.message })
    }
  }
  const more = async () => {
    const { jobs, cursor, isBusy } = current.current
    if (!cursor || isBusy) return
    const own = ++round.current
    show({ ...current.current, isBusy: true })
    try {
      const answer = await page(cursor)
      if (own !== round.current) return
      const known = new Set(jobs.map(({ id }) => id))
      show({ jobs: [...jobs, ...answer.jobs.filter(({ id }) => !known.has(id))], cursor: answer.cursor, isRead: true })
    } catch (error) {
      if (own === round.current) show({ ...current.current, isBusy: false, error: error.message })
    }
  }
  return { list, current, read, more, show, isReading: () => current.current.isBusy === true }
}

export function JobList({ queue, status }) {
  const name = queue.queue
  const beat = useLive((state) => state.beat)
  const { list, current, read, more, show } = useJobs(name, status)
  useEffect(() => {
    show({ jobs: [], cursor: undefined, isRead: false })
    void read(1)
    const again = () => read(Math.max(1, current.current.jobs.length))
    changed.addEventListener('change', again)
    return () => changed.removeEventListener('change', again)
  }, [name, status])
  useEffect(() => {
    const { jobs, isRead, isBusy } = current.current
    if (isRead && !isBusy && jobs.length <= FRESH_UP_TO) void read(1)
  }, [beat])
  return html`<div class="jobs-panel">
    <nav class="tabs" aria-label="Jobs by status">${STATUSES.map(
      (one) =>
        html`<a key=${one} href=${viewHash({ view: 'queue', queue: name, status: one })} aria-current=${one === status ? 'page' : undefined}>${one}</a>`,
    )}</nav>
    ${list.error && html`<p class="problem" role="alert">${list.error}</p>`}
    <${Rows} list=${list} queue=${name} status=${status} more=${more} />
    <p class="muted list-foot">
      ${list.isRead ? `${number(list.jobs.length)} shown${list.cursor ? ', more on scrolling' : ''}` : 'Reading…'}
      ${list.cursor && html` <button class="quiet" disabled=${list.isBusy} onClick=${more}>Show more</button>`}
      ${list.jobs.length > FRESH_UP_TO && html` <button class="quiet" onClick=${() => read(list.jobs.length)}>Read again</button>`}
    </p>
  </div>`
}

function Rows({ list, queue, status, more }) {
  const box = useRef(null)
  const [from, setFrom] = useState(0)
  const { jobs } = list
  useEffect(() => {
    if (box.current) box.current.scrollTop = 0
    setFrom(0)
  }, [queue, status])
  if (list.isRead && jobs.length === 0) return html`<p class="none">No job is ${status} here.</p>`
  const inSight = Math.ceil((box.current?.clientHeight ?? 560) / ROW_PX)
  const start = Math.max(0, Math.min(from, jobs.length - inSight) - SPARE_ROWS)
  const end = Math.min(jobs.length, from + inSight + SPARE_ROWS)
  const onScroll = ({ target }) => {
    const top = Math.floor(target.scrollTop / ROW_PX)
    // The document changes every few rows, not with each pixel.
    if (Math.abs(top - from) >= SPARE_ROWS / 2 || top === 0) setFrom(top)
    if (target.scrollHeight - target.scrollTop - target.clientHeight < 20 * ROW_PX) more()
  }
  const spacer = (rows) =>
    rows > 0 && html`<tr aria-hidden="true" class="spacer"><td colspan="5" style=${{ height: `${rows * ROW_PX}px` }}></td></tr>`
  return html`<div class="job-rows" ref=${box} onScroll=${onScroll} tabindex="0" role="region" aria-label="Jobs of ${queue}, ${status}">
    <table aria-rowcount=${jobs.length + 1}>
      <thead><tr><th>Job</th><th>Status</th><th>Attempts</th><th class="when">When</th><th class="error">Last error</th></tr></thead>
      <tbody>
        ${spacer(start)}
        ${jobs.slice(start, end).map((job, at) => html`<${JobRow} key=${job.id} job=${job} at=${start + at} />`)}
        ${spacer(jobs.length - end)}
      </tbody>
    </table>
  </div>`
}

function JobRow({ job, at }) {
  const hash = drawerHash('job', jobKey(job.queue, job.id))
  const open = (event) => {
    if (!(event.target instanceof HTMLAnchorElement)) go(hash)
  }
  return html`<tr aria-rowindex=${at + 2} onClick=${open}>
    <td><a href=${hash}>${job.id}</a> <span class="muted">${job.name === '__default__' ? '' : job.name}</span></td>
    <td><${Badge} tone=${STATUS_TONES[job.status]}>${job.status}<//></td>
    <td>${job.attemptsMade} of ${job.attemptsMax}${job.resets > 0 ? html` <span class="muted">+${counted(job.resets, 'reset')}</span>` : ''}</td>
    <td class="when">${whenOf(job)}</td>
    <td class="error" title=${job.lastError}>${job.lastError ?? ''}</td>
  </tr>`
}

function whenOf({ retryAt, cooldownUntil, lastFailureAt, supervisor, step }) {
  if (supervisor) return `${supervisor}${step ? `, ${step}` : ''}`
  const next = retryAt ?? cooldownUntil
  if (next) return `in ${duration(Math.max(0, Date.parse(next) - serverNow()))}`
  return lastFailureAt ? clock(lastFailureAt) : '–'
}
