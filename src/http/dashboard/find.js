/** Finds a job by its id, in whichever queue it is. */
import { findPath, get } from './api.js'
import { useLive } from './live.js'
import { Badge, Drawer, STATUS_TONES } from './ui.js'
import { drawerHash, go, jobKey } from './url.js'
import { html, useEffect, useState } from './vendor.js'

export function SearchBox() {
  const [text, setText] = useState('')
  const onSubmit = (event) => {
    event.preventDefault()
    if (text.trim() !== '') go(drawerHash('find', text.trim()))
  }
  return html`<form role="search" onSubmit=${onSubmit}>
    <label class="visually-hidden" for="find">Job id</label>
    <input id="find" type="search" placeholder="Job id" autocomplete="off" spellcheck="false" value=${text} onInput=${(event) => setText(event.target.value)} />
    <button>Find</button>
  </form>`
}

/** `QUEUE/ID` looks in that queue alone; an id may hold a slash too. */
function pathsOf(text, queues) {
  const [queue, ...rest] = text.split('/')
  const named = queues.includes(queue) && rest.length > 0 ? [findPath(rest.join('/'), queue)] : []
  return [...named, findPath(text)]
}

export function Find({ id }) {
  const names = useLive((state) => (state.loaded ? state.queues.map(({ queue }) => queue).join('\n') : undefined))
  const [found, setFound] = useState()
  const [problem, setProblem] = useState()
  useEffect(() => {
    if (names === undefined) return
    const looks = pathsOf(id, names.split('\n').filter(Boolean)).map((path) => get(path).catch((error) => error))
    void Promise.all(looks).then((answers) => {
      const jobs = answers.flatMap((answer) => (answer instanceof Error ? [] : answer.jobs))
      setProblem(answers.find((answer) => answer instanceof Error)?.message)
      const [only] = jobs
      if (jobs.length === 1) location.replace(drawerHash('job', jobKey(only.queue, only.id)))
      else setFound(jobs)
    })
  }, [id, names])
  return html`<${Drawer} label="Search" title=${id}>
    <div role="status">
      ${!found && html`<p class="none">Looking in every queue…</p>`}
      ${problem && html`<p class="problem">${problem}</p>`}
      ${found?.length === 0 && !problem && html`<p class="none">No queue has a job of this id. Completed jobs are kept for a day.</p>`}
    </div>
    <ul class="found">${found?.map((job) => html`<li key=${job.queue}><a href=${drawerHash('job', jobKey(job.queue, job.id))}>${job.queue}/${job.id}</a> <${Badge} tone=${STATUS_TONES[job.status]}>${job.status}<//></li>`)}</ul>
  <//>`
}
