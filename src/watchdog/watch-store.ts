/** What the watch loop needs of the store, besides incidents. */
import type { SeenBeat } from '../heartbeat/seen-beat.js'
import type { WatchdogPresence } from './diagnosis.js'
import type { Incident } from './incident.js'

export interface StoreLook {
  /** Redis TIME, milliseconds. */
  readonly redisNow: number
  readonly epochBefore: string | undefined
  readonly epoch: string
  /** Supervisors that somebody must look at now, by how long they have been due, milliseconds. */
  readonly due: ReadonlyMap<string, number>
  /** Supervisors due so far ahead that the store's clock may have stepped back; the farthest first, some at a time. */
  readonly fromTheFuture: readonly string[]
  /** Milliseconds until the next one falls due; Infinity when none will. */
  readonly nextDueInMs: number
  readonly open: readonly Incident[]
  /** The other watchdogs. */
  readonly watchdogs: readonly WatchdogPresence[]
  /** Transitions whose line nobody wrote in time. */
  readonly overdueLines: number
  /** The number of the last transition. */
  readonly seq: number
  /** Every queue that was ever served or added to. */
  readonly queues: readonly string[]
}

export interface WatchStore {
  /** One look at everything that is due; also says that this watchdog lives. */
  look(): Promise<StoreLook>
  readBeats(supervisors: readonly string[]): Promise<SeenBeat[]>
  /** Gives supervisors whose deadline lies absurdly far ahead one more timeout by the store's present clock. */
  pullIn(supervisors: readonly string[], queues: readonly string[]): Promise<void>
  /** Removes what is left of a dead supervisor, unless it came back. */
  forget(seen: SeenBeat, queues: readonly string[]): Promise<void>
  forgetWatchdog(id: string): Promise<void>
  /** The clean end of this watchdog. */
  goodbye(): Promise<void>
}

/** Supervisors' names, when something there fell late or moved again. */
export interface Hints {
  subscribe(listener: (supervisor: string) => void): Promise<void>
  close(): Promise<void>
}
