/**
 * The deep dump: where a thread's async functions are suspended, when nothing is on its stack. The thread writes a
 * snapshot of its own heap, a helper thread finds the suspended functions in it, and the inspector tells the line of each.
 *
 * The snapshot holds everything that the job holds. It lies in a folder that only this user can read, for as long as it
 * is read, and nothing but names and lines of functions leaves it.
 */
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { messageOf } from '../kernel/errors.js'
import { TIMED_OUT, within } from '../kernel/within.js'
import type { SuspendedCall } from './dump.js'
import { type Frame, makeFrame, pathOf } from './frames.js'
import type { SuspendedChain, SuspendedFunction } from './heap-chains.js'
import type { InspectorTarget } from './inspector-channel.js'

export interface DeepDump {
  readonly suspended: readonly SuspendedCall[]
  readonly notes: readonly string[]
}

/** A snapshot of more takes the thread, and a whole processor, several seconds. Megabytes. */
const MAX_HEAP_MB = 64
const SNAPSHOT_MS = 20_000
const ANSWER_MS = 1000
/** Numbers of a snapshot take about ten times the heap that it shows. */
const ANALYSIS_HEAP_MB = 1024
const MAX_CALLS = 10
const GROUP = 'unstuck'

/** @throws when the thread's inspector refuses */
export async function deepDump(target: InspectorTarget): Promise<DeepDump> {
  const heapMb = await heapOf(target)
  if (heapMb === undefined) return nothing('no deep dump: this version of Node lets a thread not write a snapshot of itself')
  if (heapMb > MAX_HEAP_MB) return nothing(`no deep dump: its heap of ${Math.round(heapMb)} MB is above ${MAX_HEAP_MB} MB`)
  const folder = await mkdtemp(join(tmpdir(), 'unstuck-dump-'))
  try {
    const file = join(folder, 'heap')
    const failure = await writeSnapshot(target, file)
    if (failure !== undefined) return nothing(failure)
    return await placesOf(target, await analyse(file))
  } catch (error) {
    return nothing(`no deep dump: ${messageOf(error)}`)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

function nothing(note: string): DeepDump {
  return { suspended: [], notes: [note] }
}

/** Megabytes in use on the thread's heap; undefined when it cannot tell. */
async function heapOf(target: InspectorTarget): Promise<number | undefined> {
  const bytes = await evaluated(target, `process.getBuiltinModule('v8').getHeapStatistics().used_heap_size`, ANSWER_MS)
  return typeof bytes === 'number' ? bytes / 2 ** 20 : undefined
}

async function writeSnapshot(target: InspectorTarget, file: string): Promise<string | undefined> {
  const call = `process.getBuiltinModule('v8').writeHeapSnapshot(${JSON.stringify(file)}, { exposeInternals: true })`
  const written = await evaluated(target, call, SNAPSHOT_MS)
  if (written === TIMED_OUT) return `no deep dump: no snapshot within ${SNAPSHOT_MS / 1000} s`
  return existsSync(file) ? undefined : 'no deep dump: the thread could not write a snapshot'
}

async function evaluated(target: InspectorTarget, expression: string, limitMs: number): Promise<unknown> {
  const answer = await target.post('Runtime.evaluate', { expression, returnByValue: true, silent: true }, limitMs)
  return answer === TIMED_OUT ? TIMED_OUT : (answer['result'] as { value?: unknown } | undefined)?.value
}

async function analyse(file: string): Promise<readonly SuspendedChain[]> {
  const worker = new Worker(new URL('./node-heap-thread.js', import.meta.url), {
    workerData: file,
    execArgv: [],
    resourceLimits: { maxOldGenerationSizeMb: ANALYSIS_HEAP_MB },
  })
  const chains = new Promise<readonly SuspendedChain[]>((resolve, reject) => {
    worker.once('message', resolve)
    worker.once('error', reject)
    worker.once('exit', () => reject(new Error('the snapshot could not be read')))
  })
  try {
    const result = await within(chains, SNAPSHOT_MS)
    if (result === TIMED_OUT) throw new Error(`the snapshot was not read within ${SNAPSHOT_MS / 1000} s`)
    return result
  } finally {
    await worker.terminate()
  }
}

/** The line of each function, of chains in which a job's own code takes part. */
async function placesOf(target: InspectorTarget, chains: readonly SuspendedChain[]): Promise<DeepDump> {
  const own = chains.filter((chain) => chain.some(({ url }) => isOwn(url)))
  const suspended: SuspendedCall[] = []
  try {
    for (const chain of own.slice(0, MAX_CALLS)) {
      const frames: Frame[] = []
      for (const one of chain) {
        const frame = await frameOf(target, one)
        if (frame) frames.push(frame)
      }
      if (frames.length > 0) suspended.push({ frames })
    }
  } finally {
    await target.post('Runtime.releaseObjectGroup', { objectGroup: GROUP }, ANSWER_MS)
  }
  return { suspended, notes: suspended.length === 0 ? notesOn(0) : notesOn(own.length) }
}

function isOwn(url: string): boolean {
  return url !== '' && makeFrame('', { file: pathOf(url) }).internal !== true
}

function notesOn(found: number): string[] {
  if (found === 0)
    return ['no suspended async function of its own code is on the heap: what it waited for may have been collected']
  return found > MAX_CALLS ? [`${MAX_CALLS} of ${found} suspended calls are shown`] : []
}

/** @returns undefined when it has ended: a module that has run to its end leaves such a thing behind */
async function frameOf(target: InspectorTarget, { fn, url, objectId }: SuspendedFunction): Promise<Frame | undefined> {
  const file = url === '' ? {} : { file: pathOf(url) }
  const found = await target.post(
    'HeapProfiler.getObjectByHeapObjectId',
    { objectId: String(objectId), objectGroup: GROUP },
    ANSWER_MS,
  )
  const id = found === TIMED_OUT ? undefined : (found['result'] as { objectId?: string } | undefined)?.objectId
  if (id === undefined) return makeFrame(fn, file, true)
  const answer = await target.post('Runtime.getProperties', { objectId: id, ownProperties: true }, ANSWER_MS)
  if (answer === TIMED_OUT) return makeFrame(fn, file, true)
  const internals = (answer['internalProperties'] ?? []) as readonly InternalProperty[]
  const named = (name: string) => internals.find((property) => property.name === name)?.value?.value
  const state = named('[[GeneratorState]]')
  if (state !== undefined && state !== 'suspended') return undefined
  return makeFrame(fn, { ...file, ...locationIn(named('[[GeneratorLocation]]')) }, true)
}

interface InternalProperty {
  readonly name?: string
  readonly value?: { readonly value?: unknown }
}

/** Lines and columns count from 0 there. */
function locationIn(value: unknown): Partial<Frame> {
  const { lineNumber, columnNumber } = (value ?? {}) as { readonly lineNumber?: number; readonly columnNumber?: number }
  return lineNumber === undefined ? {} : { line: lineNumber + 1, column: (columnNumber ?? 0) + 1 }
}
