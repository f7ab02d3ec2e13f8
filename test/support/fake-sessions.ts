/** Sessions, workspaces and records that exist only in what they noted, and fail or hang where a test says so. */
import type {
  ProcessId,
  SessionEnd,
  SessionProcess,
  SessionRecord,
  SessionSigns,
  SessionSpec,
  Sessions,
  WorkspaceEnd,
  WorkspacePlan,
  Workspaces,
} from '../../src/launch/session.js'
import type { GhostRecords, SessionClaim, SessionRecords } from '../../src/launch/session-records.js'
import { type Deferred, deferred } from './deferred.js'
import { settle } from './fake-time.js'

/** What was called, in its order, as `open a/1`; and what is to fail. Shared by all fakes of one test. */
export class Calls {
  readonly list: string[] = []
  readonly #failures = new Map<string, Error>()
  readonly #hanging = new Map<string, Deferred<void>>()

  /** The named call throws from now on. */
  fail(name: string, error: Error = new Error(`${name} failed`)): void {
    this.#failures.set(name, error)
  }

  heal(name: string): void {
    this.#failures.delete(name)
  }

  /** The named call does not come back until it is resolved. */
  hang(name: string): Deferred<void> {
    const until = deferred()
    this.#hanging.set(name, until)
    return until
  }

  /** Resolves when the named call has been made so often. */
  async made(name: string, times = 1): Promise<void> {
    while (this.count(name) < times) await settle()
  }

  async note(name: string, of?: string): Promise<void> {
    this.list.push(of === undefined ? name : `${name} ${of}`)
    await this.#hanging.get(name)?.promise
    const failure = this.#failures.get(name)
    if (failure) throw failure
  }

  count(name: string): number {
    return this.list.filter((call) => call === name || call.startsWith(`${name} `)).length
  }
}

export class FakeProcess implements SessionProcess {
  readonly id: ProcessId
  readonly ended: Promise<SessionEnd>
  readonly #end = deferred<SessionEnd>()
  readonly #calls: Calls

  constructor(calls: Calls, pid: number) {
    this.id = { pid, startedAt: `start of ${pid}` }
    this.ended = this.#end.promise
    this.#calls = calls
  }

  exit(code: number): void {
    this.#end.resolve({ kind: 'exit', code })
  }

  lose(message: string): void {
    this.#end.resolve({ kind: 'lost', message })
  }

  release(): void {
    this.#calls.list.push('release')
  }

  term(): void {
    this.#calls.list.push('TERM')
  }

  kill(): void {
    this.#calls.list.push('KILL')
  }
}

const FIRST_PID = 4000

export class FakeSessions implements Sessions {
  readonly specs: SessionSpec[] = []
  readonly processes: FakeProcess[] = []
  /** Process of a folder whose start was not written down. */
  readonly lost = new Map<string, ProcessId>()
  seen: SessionSigns = { output: '', touched: '' }
  output = ''
  readonly #calls: Calls

  constructor(calls: Calls) {
    this.#calls = calls
  }

  /** The last that was started. */
  get process(): FakeProcess {
    const process = this.processes.at(-1)
    if (!process) throw new Error('no session was started')
    return process
  }

  async resolve(command: string): Promise<string> {
    await this.#calls.note('resolve')
    return `/bin/${command}`
  }

  async spawn(spec: SessionSpec): Promise<SessionProcess> {
    await this.#calls.note('spawn')
    this.specs.push(spec)
    return this.#start()
  }

  attach(): SessionProcess {
    this.#calls.list.push('attach')
    return this.#start()
  }

  #start(): SessionProcess {
    const process = new FakeProcess(this.#calls, FIRST_PID + this.processes.length)
    this.processes.push(process)
    return process
  }

  isAlive(): Promise<boolean> {
    return Promise.resolve(true)
  }

  async find(folder: string): Promise<ProcessId | undefined> {
    await this.#calls.note('find')
    return this.lost.get(folder)
  }

  async end(id: ProcessId, graceMs: number): Promise<void> {
    await this.#calls.note('end', `${id.pid} within ${graceMs}`)
  }

  async signs(): Promise<SessionSigns> {
    await this.#calls.note('signs')
    return this.seen
  }

  async tail(): Promise<string> {
    await this.#calls.note('tail')
    return this.output
  }

  async remove(folder: string): Promise<void> {
    await this.#calls.note('remove', folder)
  }
}

export class FakeWorkspaces implements Workspaces {
  left: WorkspaceEnd = {}
  readonly #calls: Calls

  constructor(calls: Calls) {
    this.#calls = calls
  }

  /** While it hangs it heeds the signal. */
  async make({ path }: WorkspacePlan, signal: AbortSignal): Promise<void> {
    const aborted = deferred<never>()
    signal.addEventListener('abort', () => aborted.reject(signal.reason as Error))
    await Promise.race([this.#calls.note('make', path), aborted.promise])
  }

  async end({ path }: WorkspacePlan, { keep = false } = {}): Promise<WorkspaceEnd> {
    await this.#calls.note('unmake', keep ? `${path} (kept)` : path)
    return this.left
  }
}

/** The records of one host, under one claim a job: `fences` says whose it is. */
export class FakeRecords implements SessionRecords, GhostRecords {
  readonly stored = new Map<string, SessionRecord>()
  /** Fence of the claim that stands. None: every claim stands. */
  readonly fences = new Map<string, number>()
  readonly outputs: string[] = []
  /** Who takes over. */
  newOwner = 'alpha#0123456789ab'
  /** What `adopt` gives for a job. */
  readonly adoptable = new Map<string, string>()
  readonly #calls: Calls

  constructor(calls: Calls) {
    this.#calls = calls
  }

  async open(claim: SessionClaim, record: SessionRecord): Promise<'opened' | 'not_ours' | SessionRecord> {
    await this.#calls.note('open')
    if (!this.#stands(claim)) return 'not_ours'
    const before = this.stored.get(claim.id)
    if (before && before.fence !== claim.fence) return before
    this.stored.set(claim.id, record)
    return 'opened'
  }

  async update(claim: SessionClaim, record: SessionRecord): Promise<boolean> {
    await this.#calls.note('update')
    if (!this.#stands(claim) || this.stored.get(claim.id)?.fence !== claim.fence) return false
    this.stored.set(claim.id, record)
    return true
  }

  async taken({ job, fence, owner }: SessionRecord): Promise<boolean> {
    await this.#calls.note('taken')
    const stored = this.stored.get(job)
    return stored?.fence === fence && stored.owner !== owner
  }

  async close({ job, fence, owner }: SessionRecord): Promise<void> {
    await this.#calls.note('close', `${job}/${fence}`)
    const stored = this.stored.get(job)
    if (stored?.fence === fence && stored.owner === owner) this.stored.delete(job)
  }

  async holds(claim: SessionClaim): Promise<boolean> {
    await this.#calls.note('holds')
    return this.#stands(claim)
  }

  async output(_claim: SessionClaim, text: string): Promise<void> {
    await this.#calls.note('output')
    this.outputs.push(text)
  }

  async list(): Promise<SessionRecord[]> {
    await this.#calls.note('list')
    return [...this.stored.values()]
  }

  async takeOver({ job, fence, owner }: SessionRecord): Promise<boolean> {
    await this.#calls.note('takeOver', job)
    const stored = this.stored.get(job)
    if (stored?.fence !== fence || stored.owner !== owner) return false
    this.stored.set(job, { ...stored, owner: this.newOwner })
    return true
  }

  async adopt({ job }: SessionRecord): Promise<string | undefined> {
    await this.#calls.note('adopt', job)
    return this.adoptable.get(job)
  }

  #stands({ id, fence }: SessionClaim): boolean {
    return (this.fences.get(id) ?? fence) === fence
  }
}

export function recordOf(changes: Partial<SessionRecord> = {}): SessionRecord {
  const { job = 'j1', fence = 1 } = changes
  const folder = `/run/${job}-${fence}`
  return {
    queue: 'mail',
    job,
    fence,
    owner: 'alpha#0123456789ab',
    host: 'h1',
    folder,
    workspace: { path: `${folder}/workspace` },
    ...changes,
  }
}

/** All of them, noting into one list. */
export function fakePorts() {
  const calls = new Calls()
  return {
    calls,
    sessions: new FakeSessions(calls),
    workspaces: new FakeWorkspaces(calls),
    records: new FakeRecords(calls),
  }
}
