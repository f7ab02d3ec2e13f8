/** A stack dump: where a thread was, the job's own code first. */
import { get } from './api.js'
import { clock, DUMP_CLASSES, duration } from './text.js'
import { html, useEffect, useState } from './vendor.js'

export function Dumps({ dumps }) {
  return html`${dumps.map((dump) => html`<${Dump} key=${dump.id} dump=${dump} />`)}`
}

/** A dump that was kept. */
export function KeptDump({ id }) {
  const [dump, setDump] = useState()
  const [error, setError] = useState()
  useEffect(() => {
    get(`/dumps/${encodeURIComponent(id)}`).then(
      (answer) => setDump(answer.dump ?? answer),
      (failure) => setError(failure.message),
    )
  }, [id])
  if (error) return html`<p class="none">${error}</p>`
  return dump ? html`<${Dump} dump=${dump} />` : html`<p class="none">Reading the dump…</p>`
}

const nameOf = ({ subject }) => (subject === 'main' ? 'Main thread' : `Thread ${subject.number} of ${subject.queue}`)

function Dump({ dump }) {
  const { samples = [], steps = [], suspended = [], kernel, notes = [], resources = [] } = dump
  return html`<article class="dump">
    <h4>${nameOf(dump)}: ${DUMP_CLASSES[dump.class] ?? dump.class}</h4>
    <p class="muted">${clock(dump.at)} · took ${duration(dump.tookMs)} · dump ${dump.id}</p>
    ${grouped(samples).map(
      ({ frames, count, at }) => html`<div key=${at}>
        ${samples.length > 1 && html`<p class="muted">At ${duration(at)}${count > 1 ? `, ${count} samples the same` : ''}:</p>`}
        <${Stack} frames=${frames} />
      </div>`,
    )}
    ${steps.length > 0 && html`<ul class="steps">${steps.toReversed().map((step, at) => html`<li key=${at}>in step <strong>${step.name}</strong>${step.job ? ` of job ${step.job}` : ''} for ${duration(step.ageMs)}${step.enteredAt ? html`, entered at <code>${placeOf(step.enteredAt)}</code>` : ''}</li>`)}</ul>`}
    ${suspended.length > 0 && html`<p>Suspended in:</p>${suspended.map((call, at) => html`<${Stack} key=${at} frames=${call.frames} joint="awaited by" />`)}`}
    ${resources.length > 0 && html`<p class="muted">Keeps alive: ${resources.join(', ')}</p>`}
    ${kernel && html`<p class="muted">Kernel: ${kernel.summary}</p>`}
    ${notes.map((note) => html`<p class="muted" key=${note}>Note: ${note}</p>`)}
  </article>`
}

/** Samples that show the same stack are one. */
function grouped(samples) {
  const groups = []
  for (const { atMs, frames } of samples) {
    const key = JSON.stringify(frames)
    const last = groups.at(-1)
    if (last?.key === key) last.count += 1
    else groups.push({ key, frames, at: atMs, count: 1 })
  }
  return groups
}

const placeOf = ({ fn, file, line, column }) =>
  `${fn}${file ? ` (${file}${line ? `:${line}` : ''}${column ? `:${column}` : ''})` : ''}`

/** The job's own frames; the rest is folded away. */
function Stack({ frames, joint = 'at' }) {
  const own = frames.filter(({ internal }) => !internal)
  const rest = frames.filter(({ internal }) => internal)
  if (frames.length === 0) return html`<p class="none">Nothing on the stack.</p>`
  const line = (frame, at) =>
    html`<li key=${at}><span class="muted">${at === 0 ? 'at' : joint}</span> <strong>${frame.fn}</strong>${frame.file && html` <code>${frame.file}${frame.line ? `:${frame.line}` : ''}</code>`}</li>`
  return html`<ol class="stack own">${own.map(line)}</ol>
    ${rest.length > 0 && html`<details><summary>${rest.length} of Node, piscina and unstuck</summary><ol class="stack">${rest.map(line)}</ol></details>`}`
}
