/**
 * One short-lived line from the sentinel to the V8 inspectors of the process: opened for a dump and closed after it,
 * since nothing may be left behind in the threads. It opens no port.
 *
 * Only for the sentinel: from the main thread it crashes Node while threads come and go (measured on 20 to 26).
 */
import type { Session } from 'node:inspector'
import { TIMED_OUT, within } from '../kernel/within.js'

/** One thread's inspector. */
export interface InspectorTarget {
  /** @returns its answer, or TIMED_OUT. @throws when it refuses, or the line is closed */
  post(method: string, params: object, limitMs: number): Promise<Answer | typeof TIMED_OUT>
  /** Hears its events until the line is closed. */
  onEvent: ((method: string, params: Answer) => void) | undefined
}

export type Answer = Readonly<Record<string, unknown>>

/** @returns why there can be no line, or undefined */
export function inspectorMissing(): string | undefined {
  return process.features.inspector ? undefined : 'this build of Node has no inspector: no JavaScript stacks'
}

export class InspectorChannel {
  readonly #session: Session
  readonly #workers = new Map<string, WorkerTarget>()
  readonly main: MainTarget

  /** @throws when the inspector may not be used */
  static async open(): Promise<InspectorChannel> {
    const { Session } = await import('node:inspector')
    const session = new Session()
    session.connectToMainThread()
    return new InspectorChannel(session)
  }

  private constructor(session: Session) {
    this.#session = session
    this.main = new MainTarget(session)
    session.on('inspectorNotification', ({ method, params }: { method: string; params: object }) =>
      this.#heard(method, { ...params }),
    )
  }

  /** Attaches to all threads that run now. @returns them by thread id, or TIMED_OUT when main passes nothing on */
  async attach(limitMs: number): Promise<ReadonlyMap<number, InspectorTarget> | typeof TIMED_OUT> {
    const enabled = await this.main.post('NodeWorker.enable', { waitForDebuggerOnStart: false }, limitMs)
    if (enabled === TIMED_OUT) return TIMED_OUT
    return new Map([...this.#workers.values()].map((worker) => [worker.threadId, worker]))
  }

  #heard(method: string, params: Answer): void {
    const sessionId = String(params['sessionId'])
    switch (method) {
      case 'NodeWorker.attachedToWorker':
        this.#workers.set(sessionId, new WorkerTarget(this.main, sessionId, threadIdIn(params['workerInfo'])))
        break
      case 'NodeWorker.receivedMessageFromWorker':
        this.#workers.get(sessionId)?.heard(String(params['message']))
        break
      case 'NodeWorker.detachedFromWorker':
        this.#workers.get(sessionId)?.gone()
        break
      default:
        this.main.onEvent?.(method, params)
    }
  }

  /** Lets go of all threads. Never throws. @param limitMs what a busy main thread is given to hear of it */
  async close(limitMs: number): Promise<void> {
    await this.main.post('NodeWorker.disable', {}, limitMs).catch(() => undefined)
    for (const worker of this.#workers.values()) worker.gone()
    this.#session.disconnect()
  }
}

class MainTarget implements InspectorTarget {
  readonly #session: Session
  onEvent: InspectorTarget['onEvent']

  constructor(session: Session) {
    this.#session = session
  }

  post(method: string, params: object, limitMs: number): Promise<Answer | typeof TIMED_OUT> {
    const answer = new Promise<Answer>((resolve, reject) => {
      this.#session.post(method, params, (error, result) => (error ? reject(asError(error)) : resolve({ ...result })))
    })
    // Whoever stops waiting leaves the answer behind; its failure is nobody's then.
    answer.catch(() => undefined)
    return within(answer, limitMs)
  }
}

interface Waiting {
  readonly resolve: (answer: Answer) => void
  readonly reject: (error: Error) => void
}

/** A worker's inspector, through main's. */
class WorkerTarget implements InspectorTarget {
  readonly threadId: number
  readonly #main: MainTarget
  readonly #sessionId: string
  readonly #waiting = new Map<number, Waiting>()
  #lastId = 0
  #isGone = false
  onEvent: InspectorTarget['onEvent']

  constructor(main: MainTarget, sessionId: string, threadId: number) {
    this.#main = main
    this.#sessionId = sessionId
    this.threadId = threadId
  }

  async post(method: string, params: object, limitMs: number): Promise<Answer | typeof TIMED_OUT> {
    if (this.#isGone) throw new Error('the thread has ended')
    const deadline = performance.now() + limitMs
    this.#lastId += 1
    const id = this.#lastId
    const answer = new Promise<Answer>((resolve, reject) => this.#waiting.set(id, { resolve, reject }))
    answer.catch(() => undefined)
    try {
      const message = JSON.stringify({ id, method, params })
      const sent = await this.#main.post('NodeWorker.sendMessageToWorker', { sessionId: this.#sessionId, message }, limitMs)
      if (sent === TIMED_OUT) return TIMED_OUT
      return await within(answer, Math.max(0, deadline - performance.now()))
    } finally {
      this.#waiting.delete(id)
    }
  }

  heard(text: string): void {
    const message = JSON.parse(text) as { id?: number; method?: string; params?: Answer; result?: Answer; error?: unknown }
    if (message.id === undefined) {
      this.onEvent?.(message.method ?? '', message.params ?? {})
      return
    }
    const waiting = this.#waiting.get(message.id)
    if (message.error === undefined) waiting?.resolve(message.result ?? {})
    else waiting?.reject(asError(message.error))
  }

  gone(): void {
    this.#isGone = true
    for (const { reject } of this.#waiting.values()) reject(new Error('the thread has ended'))
  }
}

/** The title is `[worker 7]`, and the thread's name after it if it has one; `workerId` counts attachments and is something else. */
function threadIdIn(info: unknown): number {
  const title = typeof info === 'object' && info !== null && 'title' in info ? String(info.title) : ''
  return Number(/^\[worker (\d+)\]/.exec(title)?.[1] ?? Number.NaN)
}

function asError(error: unknown): Error {
  if (error instanceof Error) return error
  const message = typeof error === 'object' && error !== null && 'message' in error ? error.message : error
  return new Error(String(message))
}
