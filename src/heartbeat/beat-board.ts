/**
 * The board: one SharedArrayBuffer on which loops, threads and jobs write their progress, each into its own cells, with
 * Atomics. No message and no Redis call on the hot path; only the sentinel reads it and turns it into beats.
 *
 * Who writes what: the main thread claims and frees job cells, stamps the loops and its own turns. A task thread claims
 * its thread cell, stamps its turns, and writes the progress of the jobs that it carries. Nobody else writes.
 * A job cell bears a claim number: a thread that outlives its job (a zombie) finds another number there and keeps off.
 *
 * Times are stamps: whole milliseconds of the host's monotonic clock since the board was made, kept as 32 bits.
 * Only their differences are used, taken modulo 2^32, so an age is right up to 49 days.
 */
import type { ProcessState } from './beat.js'
import type { JobCellRef, JobCells, LoopCells, LoopWriter, ThreadCells } from './board-cells.js'
import {
  ABORT_REASONS,
  type AbortReason,
  ALONE,
  type BoardHandle,
  type BoardLayout,
  type BoardPlan,
  HEADER,
  JOB,
  LAUNCHING,
  NO_THREAD,
  ON_MAIN,
  planOf,
  QUEUE,
  THREAD,
} from './board-layout.js'
import { BoardLoops } from './board-loops.js'
import { MAX_ID_BYTES, MAX_STEP_BYTES, readText, TEXT_BYTES, writeText } from './board-text.js'
import { BoardWords } from './board-words.js'

export type { JobCellRef, LoopWriter } from './board-cells.js'
export type { AbortReason, BoardHandle, Phase } from './board-layout.js'

const PROCESS_STATES: readonly ProcessState[] = ['starting', 'running', 'draining', 'stopped']

export class BeatBoard {
  readonly #handle: BoardHandle
  readonly #plan: BoardPlan
  readonly #cells: Int32Array
  readonly #text: Uint8Array
  readonly #words: BoardWords
  readonly #loops: BoardLoops
  #layout: BoardLayout
  /** Job cells that nobody uses, for the main thread only. */
  readonly #freeJobs: number[]

  /** @param monotonicMs the host's monotonic clock, the same for every thread of the process */
  constructor(handle: BoardHandle, monotonicMs: () => number) {
    this.#handle = handle
    this.#layout = handle.layout
    this.#plan = planOf(handle.layout)
    const { words, jobCells } = this.#plan
    this.#cells = new Int32Array(handle.buffer, 0, words)
    this.#words = new BoardWords(this.#cells, monotonicMs, handle.epochMs)
    this.#loops = new BoardLoops(this.#words, this.#plan.loopsAt, () => this.#layout.phases ?? [])
    this.#text = new Uint8Array(handle.buffer, words * 4, jobCells * TEXT_BYTES)
    this.#freeJobs = Array.from({ length: jobCells }, (_, index) => jobCells - 1 - index)
  }

  static create(layout: BoardLayout, monotonicMs: () => number): BeatBoard {
    const { words, jobCells } = planOf(layout)
    const buffer = new SharedArrayBuffer(words * 4 + jobCells * TEXT_BYTES)
    // Every stamp starts as 0, which is the board's own birth.
    return new BeatBoard({ buffer, layout, epochMs: monotonicMs() }, monotonicMs)
  }

  get handle(): BoardHandle {
    return { ...this.#handle, layout: this.#layout }
  }

  get layout(): BoardLayout {
    return this.#layout
  }

  /** Other queues and loops stand in the places of a board with a reserve, which must be the same. */
  relayout(layout: BoardLayout): void {
    this.#layout = layout
  }

  /** Now, as the board keeps times. */
  stamp(): number {
    return this.#words.stamp()
  }

  #age(stamp: number): number {
    return this.#words.age(stamp)
  }

  #get(index: number): number {
    return Atomics.load(this.#cells, index)
  }

  #set(index: number, value: number): void {
    Atomics.store(this.#cells, index, value)
  }

  // ---- the process and its main event loop

  mainTurned(): void {
    this.#set(HEADER.mainTick, this.stamp())
  }

  get mainAgeMs(): number {
    return this.#age(this.#get(HEADER.mainTick))
  }

  get processState(): ProcessState {
    return PROCESS_STATES[this.#get(HEADER.state)] ?? 'starting'
  }

  set processState(state: ProcessState) {
    this.#set(HEADER.state, PROCESS_STATES.indexOf(state))
  }

  // ---- loops

  /** The loop's own writing hand. @param index its place in `layout.loops` */
  loopWriter(index: number): LoopWriter {
    return this.#loops.writer(index)
  }

  /** A place is given to another loop, on a board whose loops come and go. */
  resetLoop(index: number): void {
    this.#loops.reset(index)
  }

  readLoop(index: number): LoopCells {
    return this.#loops.read(index)
  }

  /** Age of the last moment at which a job of this queue gave its slot back. @param queue its place in `layout.queues` */
  slotFreedAgeMs(queue: number): number {
    return this.#age(this.#get(this.#queue(queue) + QUEUE.slotFreed))
  }

  #queue(index: number): number {
    return this.#plan.queuesAt + index * QUEUE.size
  }

  // ---- threads

  #thread(cell: number): number {
    return this.#plan.threadsAt + cell * THREAD.size
  }

  /**
   * Called by a new task thread.
   * @param tid the kernel's id of it, 0 when that is not known
   * @returns its cell, the lowest free one of its queue, or -1 when all are taken (by zombies)
   */
  claimThread(queue: number, threadId: number, tid = 0): number {
    const { first, end } = this.#plan.threadRanges[queue] ?? { first: 0, end: 0 }
    for (let cell = first; cell < end; cell += 1) {
      const at = this.#thread(cell)
      if (Atomics.compareExchange(this.#cells, at + THREAD.state, 0, 1) !== 0) continue
      Atomics.add(this.#cells, at + THREAD.generation, 1)
      this.#set(at + THREAD.threadId, threadId)
      this.#set(at + THREAD.tid, tid)
      this.#set(at + THREAD.jobs, 0)
      this.#set(at + THREAD.tick, this.stamp())
      return cell
    }
    return -1
  }

  /** Called by the main thread once the thread is really gone. */
  freeThread(threadId: number): void {
    this.#eachThread((cell) => {
      const at = this.#thread(cell)
      if (this.#get(at + THREAD.state) === 0 || this.#get(at + THREAD.threadId) !== threadId) return
      this.#set(at + THREAD.jobs, 0)
      this.#set(at + THREAD.state, 0)
    })
  }

  /** The kernel's id of a live thread, when it is known. */
  threadTid(threadId: number): number | undefined {
    return this.readThreads().find((thread) => thread.threadId === threadId)?.tid || undefined
  }

  threadTurned(cell: number): void {
    this.#set(this.#thread(cell) + THREAD.tick, this.stamp())
  }

  /** A thread with a job is judged; the moment at which it takes one counts as a turn, since idle threads do not turn. */
  threadTook(cell: number): void {
    this.threadTurned(cell)
    Atomics.add(this.#cells, this.#thread(cell) + THREAD.jobs, 1)
  }

  threadGave(cell: number): void {
    Atomics.sub(this.#cells, this.#thread(cell) + THREAD.jobs, 1)
  }

  /** 1-based place of a thread cell among those of its queue; 0 for no cell. */
  threadNumber(cell: number): number {
    const range = this.#plan.threadRanges.find(({ first, end }) => cell >= first && cell < end)
    return range ? cell - range.first + 1 : 0
  }

  readThreads(): ThreadCells[] {
    const threads: ThreadCells[] = []
    this.#eachThread((cell, queue, number) => {
      const at = this.#thread(cell)
      if (this.#get(at + THREAD.state) === 0) return
      // The count of jobs before the tick: taking a job stamps a turn first.
      const jobs = this.#get(at + THREAD.jobs)
      threads.push({
        cell,
        queue,
        number,
        generation: this.#get(at + THREAD.generation),
        threadId: this.#get(at + THREAD.threadId),
        tid: this.#get(at + THREAD.tid),
        jobs,
        tickAgeMs: this.#age(this.#get(at + THREAD.tick)),
      })
    })
    return threads
  }

  #eachThread(visit: (cell: number, queue: number, number: number) => void): void {
    this.#plan.threadRanges.forEach(({ first, end }, queue) => {
      for (let cell = first; cell < end; cell += 1) visit(cell, queue, cell - first + 1)
    })
  }

  // ---- jobs

  #job(cell: number): number {
    return this.#plan.jobsAt + cell * JOB.size
  }

  /** Main thread: gives a job its cell. @returns undefined when none is free */
  claimJob(queue: number, id: string, attempt: number, fence: number): JobCellRef | undefined {
    const cell = this.#freeJobs.pop()
    if (cell === undefined) return undefined
    const at = this.#job(cell)
    const claim = (this.#get(at + JOB.claim) + 1) | 0
    this.#set(at + JOB.claim, claim)
    const now = this.stamp()
    this.#set(at + JOB.queue, queue)
    this.#set(at + JOB.thread, NO_THREAD)
    this.#set(at + JOB.fence, fence)
    this.#set(at + JOB.attempt, attempt)
    this.#set(at + JOB.started, now)
    this.#set(at + JOB.alive, now)
    this.#set(at + JOB.lockSince, now)
    this.#set(at + JOB.abort, 0)
    this.#set(at + JOB.stepLength, 0)
    // A thread killed while it wrote a step left this odd.
    this.#set(at + JOB.stepVersion, 0)
    this.#set(at + JOB.idLength, writeText(this.#text, cell * TEXT_BYTES, MAX_ID_BYTES, id))
    this.#set(at + JOB.live, 1)
    return { cell, claim }
  }

  /** Main thread: the attempt is over. */
  freeJob(ref: JobCellRef): void {
    const at = this.#job(ref.cell)
    if (this.#get(at + JOB.claim) !== ref.claim || this.#get(at + JOB.live) === 0) return
    // Before the slot looks free: whoever sees it free must see since when.
    this.#set(this.#queue(this.#get(at + JOB.queue)) + QUEUE.slotFreed, this.stamp())
    this.#set(at + JOB.live, 0)
    // Whoever still holds the old claim, a thread that would not die, must find another number from now on.
    this.#set(at + JOB.claim, (ref.claim + 1) | 0)
    this.#freeJobs.push(ref.cell)
  }

  jobOnThread(ref: JobCellRef, threadCell: number): void {
    if (!this.#holds(ref)) return
    this.#set(this.#job(ref.cell) + JOB.thread, threadCell)
    this.#set(this.#job(ref.cell) + JOB.alive, this.stamp())
  }

  /** Main thread: the job runs in a process of its own, whose news the main thread writes here. */
  jobAlone(ref: JobCellRef): void {
    this.jobOnThread(ref, ALONE)
  }

  /** It runs on the main thread: a job of a watched worker. */
  jobOnMain(ref: JobCellRef): void {
    this.jobOnThread(ref, ON_MAIN)
  }

  /** Main thread: its session is being started; `jobAlone` says that it has shown life. */
  jobLaunching(ref: JobCellRef): void {
    this.jobOnThread(ref, LAUNCHING)
  }

  jobAlive(ref: JobCellRef): void {
    if (this.#holds(ref)) this.#set(this.#job(ref.cell) + JOB.alive, this.stamp())
  }

  /** @param name undefined: no step is entered any more. @param since stamp at which it was entered */
  jobStep(ref: JobCellRef, name: string | undefined, since: number): void {
    if (!this.#holds(ref)) return
    const at = this.#job(ref.cell)
    Atomics.add(this.#cells, at + JOB.stepVersion, 1)
    const length = name === undefined ? 0 : writeText(this.#text, ref.cell * TEXT_BYTES + MAX_ID_BYTES, MAX_STEP_BYTES, name)
    this.#set(at + JOB.stepSince, since)
    this.#set(at + JOB.stepLength, length)
    Atomics.add(this.#cells, at + JOB.stepVersion, 1)
    this.#set(at + JOB.alive, this.stamp())
  }

  /** Main thread: BullMQ renewed the lock. @param stamp when the renewal was sent */
  jobLocked(ref: JobCellRef, stamp: number): void {
    if (this.#holds(ref)) this.#set(this.#job(ref.cell) + JOB.lockSince, stamp)
  }

  abortJob(ref: JobCellRef, reason: AbortReason): void {
    if (this.#holds(ref)) this.#set(this.#job(ref.cell) + JOB.abort, ABORT_REASONS.indexOf(reason))
  }

  abortReason(ref: JobCellRef): AbortReason | undefined {
    if (!this.#holds(ref)) return 'lost its lock'
    const reason = ABORT_REASONS[this.#get(this.#job(ref.cell) + JOB.abort)]
    return reason === '' ? undefined : reason
  }

  /** The thread cell that carries this job; negative when none does. */
  threadOf(ref: JobCellRef): number {
    return this.#holds(ref) ? this.#get(this.#job(ref.cell) + JOB.thread) : NO_THREAD
  }

  #holds(ref: JobCellRef): boolean {
    return this.#get(this.#job(ref.cell) + JOB.claim) === ref.claim
  }

  readJobs(): JobCells[] {
    const jobs: JobCells[] = []
    for (let cell = 0; cell < this.#plan.jobCells; cell += 1) {
      const job = this.#readJob(cell)
      if (job) jobs.push(job)
    }
    return jobs
  }

  /** Read again when the cell changed hands meanwhile; a cell that changes all the time belongs to jobs too short to matter. */
  #readJob(cell: number): JobCells | undefined {
    const at = this.#job(cell)
    for (let tries = 0; tries < 3; tries += 1) {
      const claim = this.#get(at + JOB.claim)
      const stepVersion = this.#get(at + JOB.stepVersion)
      if (this.#get(at + JOB.live) === 0) return undefined
      const job = this.#jobCells(cell, at)
      if (this.#get(at + JOB.claim) === claim && this.#get(at + JOB.stepVersion) === stepVersion && stepVersion % 2 === 0)
        return job
    }
    return undefined
  }

  #jobCells(cell: number, at: number): JobCells {
    const stepLength = this.#get(at + JOB.stepLength)
    const text = cell * TEXT_BYTES
    return {
      cell,
      queue: this.#get(at + JOB.queue),
      thread: this.#get(at + JOB.thread),
      fence: this.#get(at + JOB.fence),
      attempt: this.#get(at + JOB.attempt),
      runningMs: this.#age(this.#get(at + JOB.started)),
      silentMs: this.#age(this.#get(at + JOB.alive)),
      lockAgeMs: this.#age(this.#get(at + JOB.lockSince)),
      id: readText(this.#text, text, this.#get(at + JOB.idLength)),
      step: stepLength === 0 ? undefined : readText(this.#text, text + MAX_ID_BYTES, stepLength),
      stepMs: stepLength === 0 ? 0 : this.#age(this.#get(at + JOB.stepSince)),
    }
  }
}
