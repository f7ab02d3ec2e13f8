/**
 * Which jobs a queue has, page by page. Pure: where to look for a status, what a cursor means, when a page is full. One
 * page costs a bounded number of looks, however large the queue: a page of a rare status may hold fewer jobs than were
 * asked for, or none, and still name a cursor.
 *
 * A cursor is a place in one of BullMQ's sets: the job that was shown last and what it stood by there. Jobs that stay
 * where they are come up once; one that moves on while somebody turns pages may come up twice, or not at all.
 */
import { UserError } from '../kernel/errors.js'
import type { JobInfo, JobPlace, JobStatus } from './explain.js'

export const JOB_STATUSES = [
  'waiting',
  'scheduled',
  'backing-off',
  'launching',
  'running',
  'completed',
  'exhausted',
  'failed',
  'cancelled',
] as const satisfies readonly JobStatus[]

export const MAX_LISTED = 200
const DEFAULT_LISTED = 50

export interface JobListOptions {
  /** Default: all of them. */
  readonly status?: JobStatus
  /** 1 to 200. Default: 50. */
  readonly limit?: number
  /** What the page before gave. Default: from the beginning. */
  readonly cursor?: string
}

/** A job in a list; `job` says why it does not run, and its session's output. */
export type ListedJob = Omit<JobInfo, 'why' | 'output'>

export interface JobPage {
  readonly jobs: readonly ListedJob[]
  /** Absent: that was all. */
  readonly cursor?: string
}

/** Where BullMQ and we keep the jobs of a status, in the order in which a person wants to see them. */
export const JOB_SETS = [
  'active',
  'wait',
  'prioritized',
  'paused',
  'waiting-children',
  'delayed',
  'exhausted',
  'failed',
  'completed',
] as const
export type JobSet = (typeof JOB_SETS)[number]

/** A place in a set: behind the job `id`, which stood at `at` (how many came before it, or its score). */
export interface Mark {
  readonly at: string
  readonly id: string
}

export interface JobSlice {
  /** In the set's order; without a place: its record is gone. */
  readonly rows: readonly { readonly mark: Mark; readonly place: JobPlace | undefined }[]
  /** The set has no more. */
  readonly isLast: boolean
}

export interface JobListSource {
  /** @param count at most so many */
  readSlice(set: JobSet, behind: Mark | undefined, count: number): Promise<JobSlice>
  /** What is shown of a job. */
  show(id: string, place: JobPlace): ListedJob | undefined
}

/** A status that is rare in its set is not searched for any longer than this, times what was asked for. */
const LOOKS_PER_JOB = 5
const MIN_LOOKS = 250

/** @throws UserError INPUT_INVALID naming the option */
export async function listJobs(options: JobListOptions, source: JobListSource): Promise<JobPage> {
  const { status, limit, sets, start } = checkOptions(options)
  const jobs: ListedJob[] = []
  let looks = Math.max(MIN_LOOKS, LOOKS_PER_JOB * limit)
  let { index, mark } = start
  for (let set = sets[index]; set !== undefined; set = sets[index]) {
    if (jobs.length === limit || looks <= 0) return { jobs, cursor: cursorOf(set, mark) }
    const { rows, isLast } = await source.readSlice(set, mark, Math.min(looks, limit))
    let looked = 0
    for (const row of rows) {
      if (jobs.length === limit) break
      looked += 1
      mark = row.mark
      const job = row.place && source.show(row.mark.id, row.place)
      if (job && (status === undefined || job.status === status)) jobs.push(job)
    }
    looks -= Math.max(1, looked)
    if (rows.length > 0 && (looked < rows.length || !isLast)) continue
    index += 1
    mark = undefined
  }
  return { jobs }
}

interface Checked {
  readonly status: JobStatus | undefined
  readonly limit: number
  readonly sets: readonly JobSet[]
  readonly start: { readonly index: number; readonly mark: Mark | undefined }
}

function checkOptions({ status, limit = DEFAULT_LISTED, cursor }: JobListOptions): Checked {
  if (status !== undefined && !JOB_STATUSES.includes(status))
    throw new UserError('INPUT_INVALID', `status: there is no such one; take one of ${JOB_STATUSES.join(', ')}`)
  if (!Number.isInteger(limit) || limit < 1 || limit > MAX_LISTED)
    throw new UserError('INPUT_INVALID', `limit: must be a whole number from 1 to ${MAX_LISTED}`)
  const sets = setsOf(status)
  const from = cursor === undefined ? undefined : parseCursor(cursor)
  const index = from ? sets.indexOf(from.set) : 0
  if (index < 0) throw badCursor()
  return { status, limit, sets, start: { index, mark: from?.mark } }
}

function setsOf(status: JobStatus | undefined): readonly JobSet[] {
  switch (status) {
    case undefined:
      // The exhausted are among the failed.
      return JOB_SETS.filter((set) => set !== 'exhausted')
    case 'waiting':
      return ['wait', 'prioritized', 'paused', 'waiting-children']
    case 'scheduled':
    case 'backing-off':
      return ['delayed']
    case 'launching':
    case 'running':
      return ['active']
    case 'completed':
      return ['completed']
    case 'exhausted':
      return ['exhausted']
    case 'failed':
    case 'cancelled':
      return ['failed']
  }
}

function cursorOf(set: JobSet, mark: Mark | undefined): string {
  return Buffer.from(JSON.stringify(mark ? [set, mark.at, mark.id] : [set])).toString('base64url')
}

/** A score or a number of jobs, as Redis writes one. */
const NUMBER = /^-?\d{1,20}(\.\d{1,20})?(e[+-]?\d{1,3})?$/

function parseCursor(cursor: string): { set: JobSet; mark: Mark | undefined } {
  const [name, at, id] = partsOf(cursor)
  const set = JOB_SETS.find((candidate) => candidate === name)
  if (set === undefined) throw badCursor()
  if (at === undefined && id === undefined) return { set, mark: undefined }
  if (typeof at !== 'string' || typeof id !== 'string' || !NUMBER.test(at)) throw badCursor()
  return { set, mark: { at, id } }
}

function partsOf(cursor: string): readonly unknown[] {
  try {
    const parts: unknown = JSON.parse(Buffer.from(String(cursor), 'base64url').toString())
    return Array.isArray(parts) ? parts : []
  } catch {
    return []
  }
}

function badCursor(): UserError {
  return new UserError('INPUT_INVALID', 'cursor: is none of this list; leave it out to begin from the start')
}
