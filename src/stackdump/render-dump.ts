/** A dump as lines for a terminal. */
import type { Dump, DumpClass, DumpStep, DumpSubject, Sample } from './dump.js'
import { type Frame, frameText, sameFrames } from './frames.js'

const MEANING: Readonly<Record<DumpClass, string>> = {
  running: 'running JavaScript',
  storm: 'running microtasks without end; its event loop does not turn',
  awaiting: 'awaiting: its event loop turns, no JavaScript is on the stack',
  native: 'in native code, which no JavaScript stack shows',
  parked: 'idle',
  unseen: 'could not be seen',
}

/** Readable lines, without colour and without a newline at the end of each. */
export function renderDump(dump: Dump): string[] {
  const title = `${nameOf(dump)}: ${MEANING[dump.class]}`
  const taken = `dump ${dump.id}, ${new Date(dump.at).toISOString()}, took ${rounded(dump.tookMs)} ms`
  return [
    title,
    `  ${taken}`,
    ...samplesOf(dump.samples),
    ...stepsOf(dump.steps),
    ...suspendedOf(dump),
    ...(dump.resources?.length ? [`  keeps alive: ${dump.resources.join(', ')}`] : []),
    ...(dump.kernel ? [`  kernel: ${dump.kernel.summary}`] : []),
    ...dump.notes.map((note) => `  note: ${note}`),
  ]
}

function nameOf({ supervisor, subject }: Dump): string {
  return supervisor === undefined ? subjectText(subject) : `${supervisor}, ${subjectText(subject)}`
}

function subjectText(subject: DumpSubject): string {
  return subject === 'main' ? 'main thread' : `thread ${subject.number} of ${subject.queue}`
}

/** Samples that show the same stack are shown once. */
function samplesOf(samples: readonly Sample[]): string[] {
  const groups: Sample[][] = []
  for (const sample of samples) {
    const last = groups.at(-1)
    if (last?.[0] && sameFrames(last[0].frames, sample.frames)) last.push(sample)
    else groups.push([sample])
  }
  return groups.flatMap((group) => [`  ${momentOf(group, samples.length)}`, ...stackOf(group[0]?.frames ?? [])])
}

function momentOf(group: readonly Sample[], all: number): string {
  const first = rounded(group[0]?.atMs ?? 0)
  if (group.length === 1) return all === 1 ? 'stack:' : `stack at ${first} ms:`
  return `stack from ${first} to ${rounded(group.at(-1)?.atMs ?? 0)} ms, ${group.length} times the same:`
}

function stackOf(frames: readonly Frame[]): string[] {
  if (frames.length === 0) return ['    (nothing on the stack)']
  const own = frames.filter(({ internal }) => internal !== true)
  const rest = frames.filter(({ internal }) => internal === true)
  const divider = own.length > 0 && rest.length > 0 ? ['    … of Node, piscina and unstuck:'] : []
  return [...own.map(frameLine), ...divider, ...rest.map(frameLine)]
}

function frameLine(frame: Frame): string {
  return `    at ${frameText(frame)}`
}

function stepsOf(steps: readonly DumpStep[]): string[] {
  return steps.toReversed().map(({ name, ageMs, enteredAt, job }) => {
    const of = job === undefined ? '' : ` of job ${job}`
    const where = enteredAt ? `, entered at ${frameText(enteredAt)}` : ''
    return `  in step ${name}${of} for ${rounded(ageMs / 1000)} s${where}`
  })
}

function suspendedOf({ suspended = [] }: Dump): string[] {
  return suspended.flatMap(({ frames }) => [
    '  suspended in:',
    ...frames.map((frame, at) => `    ${at === 0 ? 'at' : 'awaited by'} ${frameText(frame)}`),
  ])
}

function rounded(value: number): number {
  return Math.round(value * 10) / 10
}
