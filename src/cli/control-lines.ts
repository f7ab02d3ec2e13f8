/** What the commands that change something say they did, or would do. Pure. */
import type { BulkReset, JobCancelled, JobReset } from '../recovery/bullmq-control.js'
import { duration, printable } from './terminal.js'

const counted = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? '' : 's'}`
const foreseen = (dryRun: boolean, text: string): string => printable(dryRun ? `dry run: ${text}` : text)

export function resetLine(queue: string, id: string, { attemptsBefore, runsInMs }: JobReset, dryRun: boolean): string {
  const used = attemptsBefore === 0 ? 'none was used' : `${counted(attemptsBefore, 'attempt')} had been used`
  const when = runsInMs === undefined || runsInMs <= 0 ? '' : `; it may run in ${duration(runsInMs)}`
  return foreseen(dryRun, `job:${queue}/${id}: ${dryRun ? 'would be' : 'is'} put back with all its attempts (${used})${when}`)
}

export interface BulkScope {
  readonly group?: string
  /** Those that failed for good too. */
  readonly permanent: boolean
}

export function bulkResetLine(queue: string, { jobs, perSecond }: BulkReset, scope: BulkScope, dryRun: boolean): string {
  if (jobs === 0) {
    const kinds = scope.permanent ? 'exhausted or failed' : 'exhausted'
    return foreseen(dryRun, `queue ${queue} has no ${kinds} job: nothing is put back`)
  }
  const some = `${counted(jobs, 'job')} of queue ${queue}`
  // How many of them are in the group shows only when they are looked at.
  const which = scope.group === undefined ? some : `of ${some}, those ${groupText(scope.group)}`
  return foreseen(dryRun, `${which} ${dryRun ? 'would' : 'will'} be put back, ${perSecond} a second`)
}

const groupText = (group: string): string => (group === '' ? 'without a group' : `of group ${group}`)

export function cancelLine(queue: string, id: string, { state, supervisor }: JobCancelled, dryRun: boolean): string {
  const would = dryRun ? 'would be ' : ''
  return foreseen(dryRun, `job:${queue}/${id}: ${cancelled(queue, id, state, supervisor ?? '', would)}`)
}

function cancelled(queue: string, id: string, state: JobCancelled['state'], supervisor: string, would: string): string {
  switch (state) {
    case 'cancelled':
      return `${would}cancelled`
    case 'stopping':
      return would === ''
        ? `supervisor ${supervisor} is told to stop it; \`unstuck explain ${queue} ${id}\` says when it has`
        : `supervisor ${supervisor} would be told to stop it`
    case 'marked':
      return `${would}cancelled as soon as it is taken back from the supervisor that it lost`
  }
}

export function holdLine(queue: string, action: 'pause' | 'resume', changed: boolean, dryRun: boolean): string {
  const done = { pause: 'paused', resume: 'resumed' }[action]
  if (!changed) return foreseen(dryRun, `queue ${queue} ${action === 'pause' ? 'is paused already' : 'is not paused'}`)
  const then = action === 'pause' ? 'it keeps its jobs, and what runs goes on' : 'its jobs run again'
  return foreseen(dryRun, `queue ${queue} ${dryRun ? 'would be' : 'is'} ${done}: ${then}`)
}

export function drainLine(supervisor: string, running: number, dryRun: boolean): string {
  const then =
    running === 0 ? 'leaves' : `leaves once ${counted(running, 'running job')} ${running === 1 ? 'has' : 'have'} ended`
  return foreseen(dryRun, `supervisor ${supervisor} ${dryRun ? 'would be' : 'is'} told: it takes no more jobs and ${then}`)
}
