/** What is written down about sessions, and under which claim: the ports of whoever launches them and of whoever cleans up. */
import type { SessionRecord } from './session.js'

/** Who may write about an attempt: the lock's token and the fence of its claim. */
export interface SessionClaim {
  readonly id: string
  readonly token: string
  readonly fence: number
}

export interface SessionRecords {
  /**
   * Notes a session before anything of it exists. There is one record for a host and a job, so no job has two sessions
   * there: the one that is found stands for a session that must be ended first.
   * @returns `not_ours` when somebody else has claimed the job since
   */
  open(claim: SessionClaim, record: SessionRecord): Promise<'opened' | 'not_ours' | SessionRecord>
  /** @returns false when the claim, or the record, is not ours any more */
  update(claim: SessionClaim, record: SessionRecord): Promise<boolean>
  /** Whether it is another owner's by now, who has adopted its session or cleans up after it. */
  taken(record: SessionRecord): Promise<boolean>
  /** Nothing is left of this session. A record of a later one, or of another owner, stays. */
  close(record: SessionRecord): Promise<void>
  /** Whether the claim still stands. */
  holds(claim: SessionClaim): Promise<boolean>
  /** Keeps the last output for whoever looks at the job. */
  output(claim: SessionClaim, text: string): Promise<void>
}

/** For those that nobody owns any more. */
export interface GhostRecords extends Pick<SessionRecords, 'close'> {
  /** All of a queue on this host. One that cannot be read is left out and told. */
  list(queue: string): Promise<SessionRecord[]>
  /** Makes the record ours, to clean up after it. @returns false when it has changed meanwhile */
  takeOver(record: SessionRecord): Promise<boolean>
  /** Makes the record and its attempt ours, in one step. @returns the token of the claim, or undefined when it cannot be had */
  adopt(record: SessionRecord): Promise<string | undefined>
}
