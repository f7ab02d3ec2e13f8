/**
 * Which active jobs are orphans. Pure. Orphans are known, not guessed: an expired lock proves nothing, since renewal
 * stops with Redis. A job is taken back only
 *
 * - when the beat of the incarnation that claimed it is silent beyond its timeout, said goodbye, or was replaced;
 * - when its owner beats and disowns it: it is not listed in the beats of two looks, the last of which came in long
 *   enough after the claim was first seen that a reply still under way would be verified by its owner before it runs;
 * - when nobody knows its owner (another program's worker): when it had no lock in two looks in a row.
 *
 * Whoever may not judge (blind, or just after) takes nothing back.
 */
import { LATE_CLAIM_MS } from '../dispatch/run-attempt.js'
import { MAX_ID_BYTES } from '../heartbeat/board-text.js'
import type { SeenBeat } from '../heartbeat/seen-beat.js'

/** An active job as Redis has it. */
export interface ActiveJob {
  readonly id: string
  /** Who claimed it: `supervisor#incarnation`, or any other worker's name, or undefined. */
  readonly owner: string | undefined
  /** BullMQ's attemptsStarted at the claim; undefined when the record is gone. */
  readonly fence: string | undefined
  readonly locked: boolean
}

export interface OwnerName {
  readonly supervisor: string
  readonly incarnation: string
}

export type OrphanReason = 'supervisor_lost' | 'disowned' | 'unlocked'

export interface Orphan {
  readonly job: ActiveJob
  readonly reason: OrphanReason
  /** What is written into the job. */
  readonly message: string
}

/** What was noted of a job in earlier looks; a new claim starts anew. */
interface Suspicion {
  readonly fence: string | undefined
  /** Looks in a row in which it seemed orphaned. */
  readonly looks: number
  /** The owner's beat at the last look. */
  readonly beatSeq: number
  /** When it was first seen so. */
  readonly since: number
}

/** Looks, or beats, in a row that must agree before a job is taken from somebody who may live. */
const AGREEING = 2

/** How long after a claim was first seen its owner's beat must have come to disown it, milliseconds. */
const DISOWN_AFTER_MS = 3 * LATE_CLAIM_MS

export const ownerName = (owner: OwnerName): string => `${owner.supervisor}#${owner.incarnation}`

/** @returns undefined for a name that is not ours */
export function parseOwner(owner: string | undefined): OwnerName | undefined {
  const match = /^([^#]+)#([0-9a-f]{12})$/.exec(owner ?? '')
  return match?.[1] && match[2] ? { supervisor: match[1], incarnation: match[2] } : undefined
}

export class OrphanFinder {
  #suspicions = new Map<string, Suspicion>()

  /** What was noted counts no more: the observer could not see for a while. */
  forget(): void {
    this.#suspicions = new Map()
  }

  /**
   * @param beatOf the last beat under a supervisor's name
   * @param now the observer's own monotonic clock, milliseconds
   */
  find(jobs: readonly ActiveJob[], queue: string, beatOf: (supervisor: string) => SeenBeat | undefined, now: number): Orphan[] {
    const suspicions = new Map<string, Suspicion>()
    const orphans: Orphan[] = []
    for (const job of jobs) {
      const owner = parseOwner(job.owner)
      const beat = owner ? beatOf(owner.supervisor) : undefined
      if (owner && isLost(owner, beat)) {
        orphans.push({
          job,
          reason: 'supervisor_lost',
          message: `supervisor ${owner.supervisor} was lost while it ran this job`,
        })
        continue
      }
      const suspicion = this.#suspect(job, queue, beat, now)
      if (!suspicion) continue
      suspicions.set(job.id, suspicion)
      if (suspicion.looks < AGREEING) continue
      if (beat && now - suspicion.since - beat.ageMs < DISOWN_AFTER_MS) continue
      orphans.push(
        owner
          ? { job, reason: 'disowned', message: `supervisor ${owner.supervisor} took this job and never began it` }
          : { job, reason: 'unlocked', message: 'the worker of this job let its lock expire' },
      )
    }
    this.#suspicions = suspicions
    return orphans
  }

  #suspect(job: ActiveJob, queue: string, beat: SeenBeat | undefined, now: number): Suspicion | undefined {
    const noted = this.#suspicions.get(job.id)
    const before = noted?.fence === job.fence ? noted : undefined
    const { looks, since } = before ?? { looks: 0, since: now }
    const { fence } = job
    if (!parseOwner(job.owner)) return job.locked ? undefined : { fence, looks: looks + 1, beatSeq: 0, since }
    // Our owner lives, but what it says cannot be read: unknown is no reason to take anything.
    if (!beat?.beat) return undefined
    const listed = beat.beat.jobs.some((candidate) => candidate.queue === queue && isShownAs(job.id, candidate.id))
    if (listed) return undefined
    const isNewBeat = looks === 0 || beat.beat.seq > (before?.beatSeq ?? 0)
    return { fence, looks: isNewBeat ? looks + 1 : looks, beatSeq: beat.beat.seq, since }
  }
}

/** The board cuts a longer id at a whole character, of at most four bytes. */
function isShownAs(id: string, shown: string): boolean {
  if (id === shown) return true
  return Buffer.byteLength(id) > MAX_ID_BYTES && Buffer.byteLength(shown) > MAX_ID_BYTES - 4 && id.startsWith(shown)
}

/** Its owner's beat is silent beyond its timeout, said goodbye, or is another incarnation's. */
export function isLost(owner: OwnerName, beat: SeenBeat | undefined): boolean {
  if (!beat || beat.incarnation === undefined) return true
  return beat.incarnation !== owner.incarnation || beat.bye || beat.overdueMs > 0
}
