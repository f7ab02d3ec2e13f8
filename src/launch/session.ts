/**
 * What a session is: the child process that an agent job starts, in its workspace. Words, records and the ports through
 * which a launch touches the world; nothing in here does anything.
 */

/** The steps of a launch, in their order. Metrics and lines name them so. */
export const LAUNCH_STEPS = ['plan', 'fence', 'workspace', 'spawn', 'record', 'sign_of_life'] as const
export type LaunchStep = (typeof LAUNCH_STEPS)[number]

/** A launch that was refused, or failed before anything of the job ran; all that it did is undone. */
export class LaunchError extends Error {
  override readonly name = 'LaunchError'
  /** Retrying cannot help: it waits for changed settings or a person. */
  readonly permanent: boolean

  constructor(message: string, { permanent = false, ...options }: ErrorOptions & { readonly permanent?: boolean } = {}) {
    super(message, options)
    this.permanent = permanent
  }
}

/** A process, told apart from a later one with the same number. */
export interface ProcessId {
  /** Leader of its process group. */
  readonly pid: number
  /** When it started, as the host's kernel knows it; another text means another process. */
  readonly startedAt: string
}

/** Where a session works. */
export interface WorkspacePlan {
  /** Absolute path. */
  readonly path: string
  readonly git?: {
    /** Absolute path of the repository. */
    readonly repo: string
    /** What the branch starts from. Default: what the repository has checked out. */
    readonly base?: string
    /** `unstuck/QUEUE/JOB`. */
    readonly branch: string
  }
}

/** What a workspace leaves behind. */
export interface WorkspaceEnd {
  /** The branch, if there are commits on it that its base has not. */
  readonly branch?: string
  /** How many. */
  readonly commits?: number
}

export interface Workspaces {
  /**
   * Makes it, whatever an earlier launch left there. A failure leaves nothing of it behind.
   * @throws LaunchError
   */
  make(plan: WorkspacePlan, signal: AbortSignal): Promise<void>
  /**
   * Ends it: the folder goes unless it is to be kept, a branch without commits of its own goes, commits stay. May be
   * called again, and for one that was never made or only half.
   */
  end(plan: WorkspacePlan, options?: { readonly keep?: boolean }): Promise<WorkspaceEnd>
}

/** All that is needed to start a session. */
export interface SessionSpec {
  /** The session's own folder: what it reads and writes about itself lies there, beside its workspace. Absolute. */
  readonly folder: string
  /** Where the command runs. */
  readonly cwd: string
  /** Absolute path of the program. */
  readonly command: string
  readonly args: readonly string[]
  /** The whole environment. */
  readonly env: Readonly<Record<string, string>>
  /** What the command reads on standard input. */
  readonly input: string
  /** Size above which the log is turned over, bytes; the two files together have at most twice as many. */
  readonly logBytes: number
  /** Between TERM and KILL when the supervisor is gone, milliseconds. */
  readonly lostGraceMs: number
  /** It may outlive its supervisor, from the moment at which it is `released`. */
  readonly survives: boolean
  /** Name of the tmux session in which it runs, if it does. */
  readonly tmux?: string
}

export type SessionEnd =
  | { readonly kind: 'exit'; readonly code: number }
  /** It ended without an exit code of its own: it was killed, or its shim was. */
  | { readonly kind: 'lost'; readonly message: string }

/** Signs of life that lie in a session's folder. Any change of one of them is a new sign. */
export interface SessionSigns {
  /** Grows with each output. */
  readonly output: string
  /** Changes when the heartbeat file is touched. */
  readonly touched: string
}

export interface SessionProcess {
  readonly id: ProcessId
  /** Resolves when the command has ended and nothing of its process group is left. Never rejects. */
  readonly ended: Promise<SessionEnd>
  /** It is written down where others find it: from now on one that `survives` goes on without its supervisor. */
  release(): void
  /** Asks the whole group to end. */
  term(): void
  /** Ends the whole group. */
  kill(): void
}

export interface Sessions {
  /**
   * @returns the absolute path of the program
   * @throws LaunchError (permanent) when there is none, or it may not be executed
   */
  resolve(command: string, env: Readonly<Record<string, string>>, inTmux: boolean): Promise<string>
  /** Resolves when it runs. @throws LaunchError; nothing of it runs then */
  spawn(spec: SessionSpec): Promise<SessionProcess>
  /** One that an earlier supervisor started, and that runs or has left its exit code. */
  attach(id: ProcessId, folder: string): SessionProcess
  isAlive(id: ProcessId): Promise<boolean>
  /** The process of a session whose start was not written down, if it still runs. */
  find(folder: string): Promise<ProcessId | undefined>
  /** Ends whatever is left of its process group: TERM, grace, KILL. Resolves when nothing is left. @throws when something stays */
  end(id: ProcessId, graceMs: number): Promise<void>
  signs(folder: string): Promise<SessionSigns>
  /** The last output, at most so many bytes, cut at a line. */
  tail(folder: string, maxBytes: number): Promise<string>
  /** Removes the session's folder. */
  remove(folder: string): Promise<void>
}

/** What is written down about a session before it exists, so that whoever comes after a crash finds all of it. */
export interface SessionRecord {
  readonly queue: string
  readonly job: string
  readonly fence: number
  /** `supervisor#incarnation`. */
  readonly owner: string
  readonly host: string
  readonly folder: string
  readonly workspace: WorkspacePlan
  /** Once it runs. */
  readonly process?: ProcessId
}
