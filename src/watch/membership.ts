/**
 * One stay of somebody else's process in the fleet: the board of what it has watched, the sentinel that beats for it, and
 * the ticks of its main thread. It begins with the first thing that is watched and ends, with a goodbye, with the last.
 *
 * Workers and loops come and go while it lasts, so its board keeps room, and the sentinel is told who stands where. It
 * never touches what it watches; those who do (`bullmq-worker-watch`, `own-loops`) write into the places it gives them.
 */
import { BeatBoard, type LoopWriter } from '../heartbeat/beat-board.js'
import type { LoopLayout, QueueLayout } from '../heartbeat/board-layout.js'
import type { SentinelIdentity, Served } from '../heartbeat/sentinel-protocol.js'
import { UserError } from '../kernel/errors.js'

/** Room on the board: more than one process sensibly has. Jobs beyond it run unseen. */
const RESERVE = { queues: 64, loops: 128, jobs: 4096 } as const
/** Names of phases that one process may have; further ones are shown as none. */
const MAX_PHASES = 200
const GOODBYE_TIMEOUT_MS = 2000

type ServedQueue = Served['queues'][number]

/** The sentinel's side, as far as a stay needs it. */
export interface MembershipSentinel {
  serve(served: Served): void
  goodbye(timeoutMs: number): Promise<boolean>
  terminate(): Promise<void>
}

export interface MembershipPorts {
  readonly monotonicMs: () => number
  /** Registers and beats; waits for a Redis that is away, until it is aborted. */
  start(board: BeatBoard, queues: SentinelIdentity['queues'], signal: AbortSignal): Promise<MembershipSentinel>
  /** Calls `turn` again and again on the main thread. @returns what ends it */
  everyTick(turn: () => void): () => void
  readonly onError: (error: unknown) => void
  /** Nothing is watched any more. */
  readonly onEnd: () => void
}

export interface WatchRequest {
  readonly loop: LoopLayout
  /** Only the fetch loop of a worker has one. */
  readonly queue?: ServedQueue
  /** Called at each tick. */
  readonly onTick?: () => void
}

/** What stands on the board for one watched thing. */
export interface Place {
  readonly board: BeatBoard
  readonly writer: LoopWriter
  /** -1 without a queue. */
  readonly queueIndex: number
  /** Settles when the process beats; rejects when it cannot. */
  readonly ready: Promise<void>
  /** A phase must be known before it is written. */
  knowPhase(name: string): void
  setSlots(slots: number): void
  /** Gives the place back; the last one says goodbye. May be called twice. */
  leave(): Promise<void>
}

const NO_QUEUE: ServedQueue = { name: '', slots: 0, silentAfterMs: 0, lockDurationMs: 0, onStuck: 'report' }
const NO_LOOP: LoopLayout = { loop: '' }

/** Whoever goes on writing after it left would write into another's place. */
function whileHeld(writer: LoopWriter, isHeld: () => boolean): LoopWriter {
  const held =
    <Args extends unknown[]>(write: (...args: Args) => void) =>
    (...args: Args): void => {
      if (isHeld()) write(...args)
    }
  return {
    state: held(writer.state),
    started: held(writer.started),
    oldest: held(writer.oldest),
    ended: held(writer.ended),
    skipped: held(writer.skipped),
    limitedFor: held(writer.limitedFor),
  }
}

export class Membership {
  readonly #ports: MembershipPorts
  readonly #board: BeatBoard
  readonly #phases: string[] = []
  readonly #places = new Set<WatchRequest>()
  readonly #abort = new AbortController()
  #queues: ServedQueue[] = []
  #loops: LoopLayout[] = []
  #sentinel: MembershipSentinel | undefined
  #starting: Promise<void> | undefined
  #ended: Promise<void> | undefined
  #stopTicks: () => void = () => undefined

  constructor(ports: MembershipPorts) {
    this.#ports = ports
    this.#board = BeatBoard.create(this.#layout(), ports.monotonicMs)
    this.#board.processState = 'running'
  }

  /**
   * Gives a place on the board.
   * @throws UserError CONFIG_INVALID when there is no room, or a loop of that name stands there already
   */
  watch(request: WatchRequest): Place {
    const queueIndex = request.queue ? this.#put(this.#queues, request.queue, (queue) => queue.name === '', RESERVE.queues) : -1
    const named = this.#named(request.loop)
    const loop = queueIndex < 0 ? named : { ...named, queueIndex }
    const index = this.#put(this.#loops, loop, (one) => one.loop === '', RESERVE.loops)
    this.#board.resetLoop(index)
    this.#places.add(request)
    this.#serve()
    this.#starting ??= this.#start()
    let left: Promise<void> | undefined
    return {
      board: this.#board,
      writer: whileHeld(this.#board.loopWriter(index), () => left === undefined),
      queueIndex,
      ready: this.#starting,
      knowPhase: (name) => this.#knowPhase(name),
      setSlots: (slots) => {
        const queue = this.#queues[queueIndex]
        if (!queue || queue.slots === slots) return
        this.#queues[queueIndex] = { ...queue, slots }
        this.#serve()
      },
      leave: () => {
        left ??= this.#leave(request, queueIndex, index)
        return left
      },
    }
  }

  /** A second worker of the same queue needs a loop of another name; a user's own loops must differ. */
  #named(loop: LoopLayout): LoopLayout {
    const taken = (name: string) => this.#loops.some((one) => one.loop === name && one.queue === loop.queue)
    if (!taken(loop.loop)) return loop
    if (loop.queue === undefined) {
      throw new UserError('CONFIG_INVALID', `loop "${loop.loop}": is watched already; give the other another name`)
    }
    let number = 2
    while (taken(`${loop.loop}-${number}`)) number += 1
    return { ...loop, loop: `${loop.loop}-${number}` }
  }

  #put<T>(places: T[], item: T, isFree: (place: T) => boolean, most: number): number {
    const free = places.findIndex(isFree)
    const index = free < 0 ? places.length : free
    if (index >= most) throw new UserError('CONFIG_INVALID', `watch: more than ${most} at once in one process; watch fewer`)
    places[index] = item
    return index
  }

  #layout(): Served['layout'] {
    const queues = this.#queues.map(({ name, slots }): QueueLayout => ({ name, threads: 0, slots }))
    return { queues, loops: [...this.#loops], phases: [...this.#phases], reserve: RESERVE }
  }

  #serve(): void {
    const layout = this.#layout()
    this.#board.relayout(layout)
    this.#sentinel?.serve({ layout, queues: [...this.#queues] })
  }

  #knowPhase(name: string): void {
    if (name === '' || this.#phases.includes(name) || this.#phases.length >= MAX_PHASES) return
    this.#phases.push(name)
    this.#serve()
  }

  async #start(): Promise<void> {
    this.#stopTicks = this.#ports.everyTick(() => this.#tick())
    this.#tick()
    try {
      this.#sentinel = await this.#ports.start(this.#board, [...this.#queues], this.#abort.signal)
      this.#serve()
    } catch (error) {
      if (this.#abort.signal.aborted) return
      this.#ports.onError(error)
      throw error
    }
  }

  #tick(): void {
    this.#board.mainTurned()
    for (const { onTick } of this.#places) onTick?.()
  }

  async #leave(request: WatchRequest, queueIndex: number, loopIndex: number): Promise<void> {
    this.#places.delete(request)
    if (this.#places.size === 0) return this.end()
    if (queueIndex >= 0) this.#queues[queueIndex] = NO_QUEUE
    this.#loops[loopIndex] = NO_LOOP
    this.#serve()
  }

  /** Says goodbye, in a bounded time. May be called twice. */
  end(): Promise<void> {
    this.#ended ??= this.#end()
    return this.#ended
  }

  async #end(): Promise<void> {
    this.#ports.onEnd()
    this.#board.processState = 'draining'
    this.#abort.abort()
    await this.#starting?.catch(() => undefined)
    await this.#sentinel?.goodbye(GOODBYE_TIMEOUT_MS)
    await this.#sentinel?.terminate()
    this.#stopTicks()
  }
}
