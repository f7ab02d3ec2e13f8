/**
 * Obeys orders for dumps, in the sentinel. It knows the supervisor's threads from the board, has them captured, gives each
 * dump its name and keeps it. What watchdogs ask for by themselves is bounded: a day of trouble must not become a load.
 */
import type { BeatBoard } from '../heartbeat/beat-board.js'
import type { TerminateOrder } from '../heartbeat/sentinel-protocol.js'
import { messageOf } from '../kernel/errors.js'
import { within } from '../kernel/within.js'
import { type Dump, type DumpCore, type DumpSubject, sealDump, topFrame } from './dump.js'
import type { DumpAnswer, DumpOrder, DumpTarget } from './dump-request.js'

export interface CaptureOrder {
  readonly target: 'main' | number
  readonly options: { readonly busy?: boolean; readonly deep?: boolean; readonly samples?: number }
}

export interface DumperPorts {
  readonly board: BeatBoard
  capture(orders: readonly CaptureOrder[]): Promise<readonly DumpCore[]>
  /** Keeps them and answers whoever asked. */
  save(answer: DumpAnswer, dumps: readonly Dump[]): Promise<void>
  readonly newId: () => string
  /** Wall clock, to show. */
  readonly now: () => number
  readonly monotonicMs: () => number
  readonly error: (error: unknown) => void
}

export interface DumperIdentity {
  readonly supervisor: string
  readonly incarnation: string
}

/** Of what nobody asked for by hand. */
export const MOST_AUTOMATIC_PER_HOUR = 60
const HOUR_MS = 3_600_000
/** A thread that is to be ended is looked at no longer, milliseconds. */
const WITNESS_LIMIT_MS = 1000
/** Nor again, when it was looked at so lately, milliseconds. */
const SEEN_LATELY_MS = 10_000

interface Found {
  readonly subject: DumpSubject
  readonly order: CaptureOrder
}

export class Dumper {
  readonly #ports: DumperPorts
  readonly #identity: DumperIdentity
  #automatic: number[] = []
  /** When a thread was dumped last, by its id. */
  readonly #seen = new Map<number, number>()

  constructor(ports: DumperPorts, identity: DumperIdentity) {
    this.#ports = ports
    this.#identity = identity
  }

  /** Takes them now; keeps nothing. What is not there is left out. @param firstId of the first; the others get numbers after it */
  async take(targets: 'all' | readonly DumpTarget[], deep = false, firstId = this.#ports.newId()): Promise<Dump[]> {
    const { capture, now, monotonicMs } = this.#ports
    const found = this.#find(targets, deep)
    if (found.length === 0) return []
    const at = now()
    const cores = await capture(found.map(({ order }) => order))
    for (const { order } of found) if (order.target !== 'main') this.#seen.set(order.target, monotonicMs())
    return found.flatMap(({ subject }, index) => {
      const core = cores[index]
      const id = index === 0 ? firstId : `${firstId}-${index}`
      return core ? [sealDump(core, { id, at, ...this.#identity, subject })] : []
    })
  }

  /** Takes them, keeps them and answers. Never rejects. */
  async obey({ request, targets, deep, incidentId }: DumpOrder): Promise<void> {
    const { save, error } = this.#ports
    try {
      if (incidentId !== undefined && !this.#mayTake()) {
        await save({ request, dumps: [], refused: `${MOST_AUTOMATIC_PER_HOUR} dumps were taken within the last hour` }, [])
        return
      }
      const dumps = await this.take(targets, deep === true, request)
      const told = dumps.map((dump) => ({ id: dump.id, class: dump.class, ...topOf(dump) }))
      await save({ request, dumps: told, ...(dumps.length === 0 ? { refused: 'no such thread' } : {}) }, dumps)
    } catch (thrown) {
      const refused = `it failed: ${messageOf(thrown)}`
      error(new Error(`a stack dump: ${refused}`))
      await save({ request, dumps: [], refused }, []).catch(error)
    }
  }

  /** Keeps what a thread does that is about to be ended for it, unless that was seen just now. Never rejects. */
  async witness({ queue, thread }: Pick<TerminateOrder, 'queue' | 'thread'>): Promise<void> {
    const [found] = this.#find([{ queue, thread }], false)
    const threadId = found?.order.target
    if (typeof threadId !== 'number') return
    const seen = this.#seen.get(threadId)
    if (seen !== undefined && this.#ports.monotonicMs() - seen < SEEN_LATELY_MS) return
    const order: DumpOrder = {
      kind: 'dump',
      request: this.#ports.newId(),
      targets: [{ queue, thread }],
      incidentId: 'terminate',
    }
    await within(this.obey(order), WITNESS_LIMIT_MS)
  }

  #mayTake(): boolean {
    const now = this.#ports.monotonicMs()
    this.#automatic = this.#automatic.filter((at) => now - at < HOUR_MS)
    if (this.#automatic.length >= MOST_AUTOMATIC_PER_HOUR) return false
    this.#automatic.push(now)
    return true
  }

  #find(targets: 'all' | readonly DumpTarget[], deep: boolean): Found[] {
    const { board } = this.#ports
    const options = deep ? { deep } : {}
    const main: Found = { subject: 'main', order: { target: 'main', options } }
    const threads = board.readThreads().map(({ queue, number, generation, threadId, jobs }) => ({
      subject: { queue: board.layout.queues[queue]?.name ?? '', number, generation, threadId },
      order: { target: threadId, options: { ...options, busy: jobs > 0 } },
    }))
    this.#forget(new Set(threads.map(({ order }) => order.target)))
    if (targets === 'all') return [main, ...threads]
    return targets.flatMap((target) => {
      if (target === 'main') return [main]
      return threads.find(({ subject }) => subject.queue === target.queue && subject.number === target.thread) ?? []
    })
  }

  #forget(live: ReadonlySet<number>): void {
    for (const threadId of this.#seen.keys()) if (!live.has(threadId)) this.#seen.delete(threadId)
  }
}

/** Where it is, in one line: the place in the job's own code, or what the kernel says where no code can be seen. */
function topOf(dump: DumpCore): { top?: string } {
  const native = dump.class === 'native' && dump.kernel ? `native code (${dump.kernel.summary})` : undefined
  const top = topFrame(dump) ?? native
  return top === undefined ? {} : { top }
}
