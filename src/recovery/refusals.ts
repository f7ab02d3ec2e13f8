/**
 * What is said when a person's order cannot be obeyed, and what an order must look like to be heard at all. Pure. Each
 * names the thing, what is wrong with it and the way out.
 */
import type { CancelRefusal } from '../dispatch/cancel-policy.js'
import type { JobPlace } from '../dispatch/explain.js'
import { UserError } from '../kernel/errors.js'
import { checkReason } from './reset-policy.js'

const MAX_ACTOR = 200

export interface Signature {
  readonly actor: string
  readonly reason?: string
}

/** @throws UserError INPUT_INVALID; what was said is not repeated, it may be large */
export function checkSignature({ actor = 'library', reason }: { actor?: string; reason?: string }): Signature {
  if (typeof actor !== 'string' || actor === '' || actor.length > MAX_ACTOR)
    throw new UserError('INPUT_INVALID', `actor: must be a text of 1 to ${MAX_ACTOR} characters; name who asks`)
  if (reason === undefined || reason === '') return { actor }
  if (typeof reason !== 'string') throw new UserError('INPUT_INVALID', 'reason: must be a text; say why in a sentence')
  checkReason(reason)
  return { actor, reason }
}

const MAX_SHOWN_ID = 160

/** The job as a subject; an id that is none may be anything. */
export function jobSubject(queue: string, id: string): string {
  const shown = JSON.stringify(id.length > MAX_SHOWN_ID ? `${id.slice(0, MAX_SHOWN_ID)}…` : id).slice(1, -1)
  return `job:${queue}/${shown}`
}

/** @param elsewhere other queues that have a job of this id */
export function jobUnknown(queue: string, id: string, elsewhere: readonly string[] = []): UserError {
  const [other] = elsewhere
  const hint =
    other !== undefined && elsewhere.length === 1
      ? `queue ${other} has one of this id; ask for that`
      : 'look at the id; completed jobs are kept for a day'
  return new UserError('JOB_UNKNOWN', `${jobSubject(queue, id)}: there is no such job in the queue; ${hint}`)
}

type ResetRefusal = 'running' | 'completed' | 'fresh' | 'waiting_for_children'

export function resetRefused(queue: string, id: string, outcome: ResetRefusal): UserError {
  const job = jobSubject(queue, id)
  switch (outcome) {
    case 'running':
      return new UserError('JOB_RUNNING', `${job}: it is running; let it end, or cancel it`)
    case 'completed':
      return new UserError('JOB_COMPLETED', `${job}: it has completed; enqueue a new one to have it done again`)
    case 'fresh':
      return new UserError(
        'JOB_FRESH',
        `${job}: it waits and has used no attempt; \`unstuck explain\` says why it does not run`,
      )
    case 'waiting_for_children':
      return waitsForChildren(job)
  }
}

/** What a reset would answer, to say it beforehand. The reset itself looks again. */
export function resetOutcomeOf({ state, attemptsMade }: JobPlace): ResetRefusal | 'reset' | 'unknown' {
  switch (state) {
    case 'not_found':
      return 'unknown'
    case 'active':
      return 'running'
    case 'completed':
      return 'completed'
    case 'waiting-children':
      return 'waiting_for_children'
    case 'failed':
      return 'reset'
    default:
      return attemptsMade > 0 ? 'reset' : 'fresh'
  }
}

export function cancelRefused(queue: string, id: string, answer: CancelRefusal): UserError {
  const job = jobSubject(queue, id)
  switch (answer.outcome) {
    case 'completed':
      return new UserError('JOB_COMPLETED', `${job}: it has completed; there is nothing left to cancel`)
    case 'failed':
      return new UserError('JOB_FAILED', `${job}: it has failed for good and will not run again by itself; leave it`)
    case 'cancelled_before':
      return new UserError('JOB_CANCELLED', `${job}: it is cancelled already; reset it to have it run after all`)
    case 'waiting_for_children':
      return waitsForChildren(job)
    case 'scheduled':
      return new UserError(
        'JOB_SCHEDULED',
        `${job}: it is the next one of scheduler ${JSON.stringify(answer.scheduler)}, which would end with it; change or remove that`,
      )
    case 'foreign': {
      const owner = answer.owner === '' ? '' : ` (${JSON.stringify(answer.owner)})`
      return new UserError('JOB_FOREIGN', `${job}: it runs in a worker that is not unstuck's${owner}; end it there`)
    }
  }
}

function waitsForChildren(job: string): UserError {
  return new UserError('JOB_WAITS_FOR_CHILDREN', `${job}: it waits until its child jobs are done; reset or cancel those`)
}

export function queueUnknown(queue: string, known: readonly string[]): UserError {
  const names = known.length === 0 ? 'none is known' : `known: ${[...known].sort().join(', ')}`
  return new UserError(
    'QUEUE_UNKNOWN',
    `queue ${queue}: Redis has never seen it (${names}); correct the name, or add a job first`,
  )
}

/** @param live the supervisors that could be named instead */
export function supervisorUnknown(supervisor: string, live: readonly string[]): UserError {
  const names = live.length === 0 ? 'none is running' : `running: ${[...live].sort().join(', ')}`
  return new UserError(
    'SUPERVISOR_UNKNOWN',
    `supervisor:${JSON.stringify(supervisor.slice(0, MAX_SHOWN_ID)).slice(1, -1)}: there is none of this name (${names}); correct the name`,
  )
}

export function supervisorGone(supervisor: string, state: 'dead' | 'stopped', to: 'drain' | 'dump'): UserError {
  // Dead is only whoever is not heard of.
  const local = to === 'dump' && state === 'dead' ? `, unless \`unstuck dump --local ${supervisor}\` on its host finds it` : ''
  return new UserError('SUPERVISOR_GONE', `supervisor:${supervisor}: it is ${state}; there is nothing to ${to}${local}`)
}
