/** What the supervisor's main thread and its sentinel thread tell each other. */
import type { UserErrorCode } from '../kernel/errors.js'
import type { Cause } from './beat.js'
import type { BoardHandle, BoardLayout } from './board-layout.js'

/** Who beats, and by which thresholds it is judged. All durations in milliseconds. */
export interface SentinelIdentity {
  readonly supervisor: string
  readonly incarnation: string
  readonly group?: string
  readonly host: string
  readonly pid: number
  readonly version: string
  /** It takes stack dumps when it is asked to. */
  readonly dumps?: true
  readonly heartbeat: {
    readonly intervalMs: number
    readonly timeoutMs: number
    readonly loopBlockedMs: number
    readonly threadBlockedMs: number
  }
  readonly loops: { readonly pollStaleThresholdMs: number; readonly startGraceMs: number }
  /** In the order of the board's `layout.queues`. */
  readonly queues: readonly {
    readonly name: string
    readonly slots: number
    readonly silentAfterMs: number
    /** Queues of sessions only. */
    readonly launchTimeoutMs?: number
    readonly lockDurationMs: number
    readonly onStuck: 'report' | 'terminate'
  }[]
}

/** What a sentinel thread is started with. */
export interface SentinelData extends SentinelIdentity {
  readonly handle: BoardHandle
  readonly redisUrl: string
  /** `redis.prefix`. */
  readonly prefix: string
  /** Absent: it serves no HTTP. */
  readonly http?: SentinelAddress
  /** The process may be a service of systemd's, and says so how it is doing. */
  readonly systemd?: true
}

/** Where the sentinel thread serves the process's endpoints. */
export interface SentinelAddress {
  readonly host: string
  /** 0: any free one. */
  readonly port: number
  /** In the place of a sentinel thread that died: beats do not wait for the port. */
  readonly again: boolean
}

/** One running job that its queue wants ended, and the thread that carries it. */
export interface TerminateOrder {
  readonly queue: string
  /** 1-based place of the thread in its queue, and which one of those that have stood there. */
  readonly thread: number
  readonly generation: number
  readonly jobId: string
  readonly attempt: number
  readonly fence: number
  readonly cause: Cause
  readonly ageMs: number
}

/** What somebody outside wants of a supervisor. It comes back with a beat, at most once. */
export type SupervisorOrder =
  /** End this very attempt; a later one, which bears another fence, is not meant. */
  | { readonly kind: 'cancel'; readonly queue: string; readonly jobId: string; readonly fence: number }
  /** Take no more jobs, finish what runs, leave. */
  | { readonly kind: 'drain' }

/** What a process serves: laid out on a board with a reserve, it may change while the process runs. */
export interface Served {
  readonly layout: BoardLayout
  /** In the order of `layout.queues`. */
  readonly queues: SentinelIdentity['queues']
}

export type ToSentinel =
  | { readonly type: 'goodbye' }
  | ({ readonly type: 'serve' } & Served)
  /** The main thread's own metrics, as text; empty when they could not be made. */
  | { readonly type: 'metrics'; readonly text: string }

export type FromSentinel =
  /** The name is ours, beats follow. */
  | { readonly type: 'ready' }
  /** Another live process holds the name. */
  | { readonly type: 'taken'; readonly host: string; readonly pid: string }
  /** A newer incarnation bears the name: this process must stop. */
  | { readonly type: 'replaced' }
  | ({ readonly type: 'terminate' } & TerminateOrder)
  | { readonly type: 'order'; readonly order: SupervisorOrder }
  | { readonly type: 'error'; readonly message: string }
  /** Where it serves HTTP. */
  | { readonly type: 'listening'; readonly port: number }
  /** It cannot, and will not register. */
  | { readonly type: 'not_listening'; readonly code: UserErrorCode | undefined; readonly message: string }
  /** Somebody scrapes: the main thread's own metrics, please. */
  | { readonly type: 'metrics_wanted' }
  /** `said`: the goodbye reached the store. */
  | { readonly type: 'gone'; readonly said: boolean }
