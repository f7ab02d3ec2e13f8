/**
 * The launch of one session, top to bottom. It owns the order of the steps and what undoes them; what it touches it
 * touches through ports.
 *
 *   fence ─▶ workspace ─▶ spawn ─▶ record ─▶ started (its first sign of life is the executor's to see)
 *     │          │           │        │
 *     └──────────┴───────────┴────────┴─▶ unwound in reverse: refused
 *
 * A launch has three outcomes. Started: it runs, and where to find it is written down. Refused: nothing of it is left.
 * Ambiguous: an undo failed, so something may be left; the record stays, nobody starts a second session of that job on
 * this host while it is there, and the reconcile loop finishes the undo. A crash at any point is the same case: the record is written
 * before the first thing that could be left behind, and removed after the last.
 */
import { channel } from 'node:diagnostics_channel'
import { UndoStack } from '../kernel/undo-stack.js'
import { TIMED_OUT, within } from '../kernel/within.js'
import { layToRest, type RestPorts } from './lay-to-rest.js'
import { LaunchError, type LaunchStep, type SessionProcess, type SessionRecord, type SessionSpec } from './session.js'
import type { SessionClaim, SessionRecords } from './session-records.js'

export interface LaunchPorts extends RestPorts {
  readonly records: SessionRecords
}

export interface LaunchOrder {
  readonly claim: SessionClaim
  /** Without its process. */
  readonly record: SessionRecord
  /** All but the program's path, which the launch finds. */
  readonly spec: SessionSpec
  /** Between TERM and KILL, milliseconds. */
  readonly graceMs: number
  /** Somebody wants it to end, or it took too long. */
  readonly signal: AbortSignal
  /** Told at the beginning of each step. */
  readonly onStep: (step: LaunchStep) => void
  readonly onUndoFailed: (step: string, error: unknown) => void
}

export type Launched =
  | { readonly kind: 'started'; readonly process: SessionProcess; readonly record: SessionRecord }
  | { readonly kind: 'refused'; readonly step: LaunchStep; readonly error: unknown; readonly ambiguous: boolean }

/** What happens where in a launch, for whoever subscribes: `{ queue, job, fence, step, when: 'before' | 'after' }`. */
const progress = channel('unstuck:launch')

/** How often a session that is in the way is ended before the launch gives up. */
const MOST_GHOSTS = 3
/** The store answers within this, or the launch is undone, milliseconds. */
const RECORD_LIMIT_MS = 10_000

export async function launch(order: LaunchOrder, ports: LaunchPorts): Promise<Launched> {
  const undo = new UndoStack()
  let step: LaunchStep = 'fence'
  let opened = false
  const take = async <T>(name: LaunchStep, run: () => Promise<T>): Promise<T> => {
    step = name
    order.signal.throwIfAborted()
    order.onStep(name)
    tell(order, name, 'before')
    const done = await run()
    tell(order, name, 'after')
    return done
  }
  try {
    const { claim, spec, signal } = order
    const { workspaces, sessions, records } = ports
    await take('fence', () => openRecord(order, ports))
    opened = true
    undo.push('folder', () => sessions.remove(order.record.folder))
    await take('workspace', () => workspaces.make(order.record.workspace, signal))
    undo.push('workspace', async () => void (await workspaces.end(order.record.workspace)))
    const process = await take('spawn', () => sessions.spawn(spec))
    undo.push('spawn', () => sessions.end(process.id, order.graceMs))
    const record = { ...order.record, process: process.id }
    await take('record', () => confirm(claim, record, records))
    process.release()
    return { kind: 'started', process, record }
  } catch (error) {
    const left = await undo.unwind(order.onUndoFailed)
    // Last, and only when nothing is left: the record is how the rest is found.
    if (opened && left.length === 0) {
      undo.push('fence', () => ports.records.close(order.record))
      left.push(...(await undo.unwind(order.onUndoFailed)))
    }
    return { kind: 'refused', step, error, ambiguous: left.length > 0 }
  }
}

/** Under the claim, before anything exists. A session of an older claim that is in the way is ended: it is fenced off. */
async function openRecord({ claim, record, graceMs }: LaunchOrder, ports: LaunchPorts): Promise<void> {
  for (let ghosts = 0; ; ghosts += 1) {
    const opened = await answered(ports.records.open(claim, record))
    if (opened === 'opened') return
    if (opened === 'not_ours') throw new LaunchError('the job was taken by another supervisor before its session began')
    if (ghosts >= MOST_GHOSTS) throw new LaunchError(`another session of this job is in the way (fence ${opened.fence})`)
    await layToRest(opened, ports, { graceMs, keep: false })
  }
}

async function confirm(claim: SessionClaim, record: SessionRecord, records: SessionRecords): Promise<void> {
  if (await answered(records.update(claim, record))) return
  throw new LaunchError('the job was taken by another supervisor while its session was started')
}

async function answered<T>(call: Promise<T>): Promise<T> {
  const answer = await within(call, RECORD_LIMIT_MS)
  if (answer === TIMED_OUT) throw new LaunchError(`Redis did not answer in ${RECORD_LIMIT_MS / 1000} s`)
  return answer
}

function tell({ record }: LaunchOrder, step: LaunchStep, when: 'before' | 'after'): void {
  if (!progress.hasSubscribers) return
  progress.publish({ queue: record.queue, job: record.job, fence: record.fence, step, when })
}
