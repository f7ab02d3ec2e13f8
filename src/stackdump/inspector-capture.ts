/**
 * Takes dumps of the threads of this process, from the sentinel, without their help: a line to the inspectors is opened,
 * each thread is peeked at a few times on top of what it does, and the line is closed. Where no JavaScript can be seen
 * the kernel is asked. It never throws; what it could not see stands in the notes.
 *
 * One dump at a time, and none while a thread is being ended: a terminate that lands in a peek can be swallowed.
 * The sentinel must outlive it: ending by itself right after a dump aborts the process.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { messageOf } from '../kernel/errors.js'
import { TIMED_OUT } from '../kernel/within.js'
import { classify, type Evidence, hasTurned, looksLikeStorm } from './classify.js'
import type { DumpCore, Sample, SuspendedCall } from './dump.js'
import { ownFrames } from './frames.js'
import { InspectorChannel, type InspectorTarget, inspectorMissing } from './inspector-channel.js'
import { type DeepDump, deepDump } from './inspector-deep.js'
import { pausedFrames } from './inspector-pause.js'
import type { KernelReading, KernelView } from './kernel-view.js'
import { canReadThreads, readThread, viewReading, viewThread } from './node-proc-threads.js'
import { PEEK_EXPRESSION, type Peek, readPeek } from './peek.js'

export interface DumpOptions {
  /** How often a thread that runs JavaScript is looked at, 1 to 5. Default 5. */
  readonly samples?: number
  /** The thread has a job, as the board says; else the thread itself is asked. */
  readonly busy?: boolean
  /** Finds the suspended async functions on the heap when the thread awaits something: tenths of a second to seconds. */
  readonly deep?: boolean
}

export interface InspectorCaptureOptions {
  /** The kernel's id of a thread, as it told when it started. */
  readonly tids: (threadId: number) => number | undefined
  readonly log: (message: string) => void
}

/** The main thread, or a thread by Node's id of it. */
export type CaptureTarget = 'main' | number

/** A thread that answers at all does so within a few milliseconds; one that does not is in native code. */
const ANSWER_MS = 400
const CLOSE_MS = 100
const MAX_SAMPLES = 5
const BETWEEN_SAMPLES_MS = 4
const MAX_PAUSES = 8
const MOST_LOST_PAUSES = 2
const AFTER_SWEEP_MS = 20
/** What a thread's inspector, or the line to it, says of a thread that ends meanwhile. */
const HAS_ENDED = /the thread has ended|Execution was terminated|Internal error/

export class InspectorCapture {
  readonly #options: InspectorCaptureOptions
  #last: Promise<unknown> = Promise.resolve()
  /** Asked for, and not begun. */
  readonly #wanted: Wanted[] = []

  constructor(options: InspectorCaptureOptions) {
    this.#options = options
  }

  dumpThread(threadId: number, options: DumpOptions = {}): Promise<DumpCore> {
    return this.#dumpOne(threadId, options)
  }

  dumpMain(options: DumpOptions = {}): Promise<DumpCore> {
    return this.#dumpOne('main', { busy: false, ...options })
  }

  /**
   * Several at once over one line: all of a supervisor's threads take hardly longer than one. In the order given. What is
   * asked for while a dump runs shares the next line: a thread in native code, which shows itself by its silence, keeps
   * the others waiting once and not each of them. Each answer comes when its own threads have been seen.
   */
  dumpAll(targets: readonly { readonly target: CaptureTarget; readonly options?: DumpOptions }[]): Promise<DumpCore[]> {
    if (this.#wanted.length === 0 && targets.length > 0) void this.exclusive(() => this.#dumpWanted())
    return Promise.all(
      targets.map(
        ({ target, options = {} }) =>
          new Promise<DumpCore>((resolve, reject) => this.#wanted.push({ target, options, resolve, reject })),
      ),
    )
  }

  async #dumpWanted(): Promise<void> {
    const wanted = this.#wanted.splice(0)
    let channel: Line['channel']
    try {
      const looks = wanted.map(({ target, options }) => this.#lookAt(target, options))
      const line = await openLine()
      channel = line.channel
      const workers = line.channel && wanted.some(({ target }) => target !== 'main') ? await attachAll(line) : undefined
      const last = new Map<CaptureTarget, Promise<void>>()
      wanted.forEach(({ target, resolve }, index) => {
        const take = async () => {
          const look = looks[index]
          if (look) resolve(await this.#take(line, workers, target, look))
        }
        // Two looks at one thread would hear each other's events.
        last.set(target, (last.get(target) ?? Promise.resolve()).then(take))
      })
      await Promise.all(last.values())
    } catch (error) {
      for (const { reject } of wanted) reject(error)
    } finally {
      await channel?.close(CLOSE_MS)
    }
  }

  /**
   * Runs what must not meet a dump, such as ending a thread and seeing it gone. Whoever runs something here without an
   * end keeps all dumps waiting.
   */
  exclusive<T>(run: () => Promise<T>): Promise<T> {
    const result = this.#last.then(run)
    this.#last = result.catch(() => undefined)
    return result
  }

  async #dumpOne(target: CaptureTarget, options: DumpOptions): Promise<DumpCore> {
    const [core] = await this.dumpAll([{ target, options }])
    return core ?? { class: 'unseen', samples: [], steps: [], tookMs: 0, notes: [] }
  }

  /** Begins with what the kernel says, before the line to the inspectors disturbs the thread. */
  #lookAt(target: CaptureTarget, options: DumpOptions): Look {
    return new Look(target, target === 'main' ? process.pid : this.#options.tids(target), options)
  }

  async #take(line: Line, workers: Workers | undefined, target: CaptureTarget, look: Look): Promise<DumpCore> {
    try {
      look.notes.push(...line.notes)
      const inspected = target === 'main' ? line.channel?.main : workers?.get(target)
      if (inspected) await look.at(inspected)
      else if (target !== 'main') look.notes.push(...whyNoWorker(line, workers, target))
    } catch (error) {
      look.failed(error)
      if (!HAS_ENDED.test(messageOf(error))) this.#options.log(`stack dump of ${target}: ${messageOf(error)}`)
    }
    return look.core()
  }
}

interface Wanted {
  readonly target: CaptureTarget
  readonly options: DumpOptions
  readonly resolve: (core: DumpCore) => void
  readonly reject: (error: unknown) => void
}

interface Line {
  readonly channel: InspectorChannel | undefined
  readonly notes: string[]
}

type Workers = ReadonlyMap<number, InspectorTarget>

async function openLine(): Promise<Line> {
  const missing = inspectorMissing()
  if (missing !== undefined) return { channel: undefined, notes: [missing] }
  try {
    return { channel: await InspectorChannel.open(), notes: [] }
  } catch (error) {
    return { channel: undefined, notes: [`the inspector may not be used: ${messageOf(error)}: no JavaScript stacks`] }
  }
}

async function attachAll({ channel, notes }: Line): Promise<Workers | undefined> {
  try {
    const workers = await channel?.attach(ANSWER_MS)
    if (workers !== TIMED_OUT) return workers
    notes.push('the main thread is in native code and passes nothing on: no JavaScript stacks of other threads')
  } catch (error) {
    notes.push(`the threads cannot be reached: ${messageOf(error)}`)
  }
  return undefined
}

function whyNoWorker({ channel }: Line, workers: Workers | undefined, threadId: number): string[] {
  return channel && workers ? [`thread ${threadId} is not there: it has ended, or has not begun`] : []
}

/** One look at one thread, and what came of it. */
class Look {
  readonly notes: string[] = []
  readonly #began = performance.now()
  /** 0: main. */
  readonly #threadId: number
  readonly #options: DumpOptions
  readonly #peeks: Peek[] = []
  readonly #kernelBefore: KernelReading | undefined
  #tid: number | undefined
  /** The question reached the thread's inspector. */
  #asked = false
  #paused: Sample | undefined
  #deep: DeepDump | undefined
  #after: Peek | undefined

  constructor(target: CaptureTarget, tid: number | undefined, options: DumpOptions) {
    this.#threadId = target === 'main' ? 0 : target
    this.#tid = tid
    this.#options = options
    this.#kernelBefore = tid === undefined ? undefined : readThread(tid)
  }

  async at(target: InspectorTarget): Promise<void> {
    this.#asked = true
    const wanted = Math.min(MAX_SAMPLES, Math.max(1, this.#options.samples ?? MAX_SAMPLES))
    while (this.#peeks.length < wanted) {
      if (this.#peeks.length > 0) await sleep(BETWEEN_SAMPLES_MS)
      const peek = await this.#peek(target)
      if (!peek) break
      this.#peeks.push(peek)
      if (this.#isIdle()) break
    }
    this.#tid ??= this.#peeks[0]?.tid
    if (this.#peeks.length === 0) this.notes.push(`it did not answer within ${ANSWER_MS} ms: it is in native code`)
    else if (this.#looksLikeStorm()) await this.#pause(target)
    if (this.#options.deep && this.#class() === 'awaiting') await this.#digDeep(target)
  }

  /** It ended while we looked, or its inspector refused: what was seen until then stands. */
  failed(error: unknown): void {
    this.#asked = false
    this.notes.push(`the dump was cut short: ${messageOf(error)}`)
  }

  async #peek(target: InspectorTarget): Promise<Peek | undefined> {
    const atMs = this.#elapsed()
    const params = { expression: PEEK_EXPRESSION, returnByValue: true, silent: true }
    const answer = await target.post('Runtime.evaluate', params, ANSWER_MS)
    if (answer === TIMED_OUT) return undefined
    const peek = readPeek((answer['result'] as { value?: unknown } | undefined)?.value, atMs)
    if (!peek) this.notes.push('the thread answered, but not with a stack')
    if (peek && (peek.threadId ?? this.#threadId) !== this.#threadId)
      throw new Error(`thread ${peek.threadId} answered instead`)
    return peek
  }

  /** Nothing of its own on the stack and the event loop turns: more looks would show the same. */
  #isIdle(): boolean {
    const [first] = this.#peeks
    const last = this.#peeks.at(-1)
    if (!first || !last || this.#peeks.some(({ frames }) => ownFrames(frames).length > 0)) return false
    // An idle thread of piscina's waits in Atomics.wait, and its loop does not turn.
    if (!this.#isBusy() && first.frames.some(({ fn }) => fn === 'Atomics.wait')) return true
    return hasTurned(first, last)
  }

  #isBusy(): boolean {
    return this.#options.busy ?? this.#peeks.some(({ jobs = 0 }) => jobs > 0)
  }

  #evidence(): Evidence {
    const kernel = this.#tid === undefined ? undefined : viewThread(this.#tid, this.#kernelBefore)
    return { asked: this.#asked, peeks: this.#peeks, busy: this.#isBusy(), ...(kernel ? { kernel } : {}) }
  }

  #class(): DumpCore['class'] {
    return this.#paused ? 'storm' : classify(this.#evidence())
  }

  #looksLikeStorm(): boolean {
    return looksLikeStorm(this.#evidence())
  }

  /** Most looks at a storm fall between two functions; a pause falls into one. */
  async #pause(target: InspectorTarget): Promise<void> {
    if (this.#peeks.some(({ frames }) => ownFrames(frames).length > 0)) return
    let lost = 0
    for (let tries = 0; tries < MAX_PAUSES && lost < MOST_LOST_PAUSES; tries += 1) {
      const atMs = this.#elapsed()
      const frames = await pausedFrames(target, ANSWER_MS)
      if (!frames) {
        // One in some hundreds is lost.
        lost += 1
        continue
      }
      this.#paused = { atMs, frames }
      // It may have fallen into Node's own pump.
      if (ownFrames(frames).length > 0) return
    }
    this.notes.push('no pause fell into its own code: what fills the event loop is not known')
  }

  async #digDeep(target: InspectorTarget): Promise<void> {
    this.#deep = await deepDump(target)
    this.notes.push(...this.#deep.notes)
    // The snapshot swept the heap: only now does the thread know what was collected.
    await sleep(AFTER_SWEEP_MS)
    this.#after = await this.#peek(target)
  }

  /** As it was before we disturbed it, when it answered; its share of a processor is known only afterwards. */
  #kernelOf({ kernel: now }: Evidence): KernelView | undefined {
    if (!this.#kernelBefore || this.#peeks.length === 0) return now
    const before = viewReading(this.#kernelBefore)
    return before.state === 'on-cpu' && now?.state === 'on-cpu' ? now : before
  }

  core(): DumpCore {
    const evidence = this.#evidence()
    const kernel = this.#kernelOf(evidence)
    const last = this.#peeks.at(-1)
    const suspended: readonly SuspendedCall[] = this.#deep?.suspended ?? []
    if (!kernel) this.notes.push(this.#whyNoKernel())
    for (const job of (this.#after ?? last)?.collected ?? []) {
      this.notes.push(`job ${job} can never end: what it waits for was collected by the garbage collector`)
    }
    return {
      class: this.#paused ? 'storm' : classify(evidence),
      samples: this.#samples(),
      steps: last?.steps ?? [],
      ...(last && last.resources.length > 0 ? { resources: last.resources } : {}),
      ...(suspended.length > 0 ? { suspended } : {}),
      ...(kernel ? { kernel } : {}),
      tookMs: this.#elapsed(),
      notes: this.notes,
    }
  }

  /** Looks at an empty stack say nothing beside one that is not. */
  #samples(): Sample[] {
    const all = [...(this.#paused ? [this.#paused] : []), ...this.#peeks.map(({ atMs, frames }) => ({ atMs, frames }))]
    const telling = all.filter(({ frames }) => frames.length > 0)
    return telling.length > 0 ? telling : all.slice(0, 1)
  }

  #whyNoKernel(): string {
    if (!canReadThreads()) return 'this system shows no threads (/proc): what the kernel does for it is not known'
    return this.#tid === undefined ? 'the kernel id of the thread is not known' : 'the kernel does not know the thread any more'
  }

  #elapsed(): number {
    return performance.now() - this.#began
  }
}
