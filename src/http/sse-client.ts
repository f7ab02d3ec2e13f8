/** One client of server-sent events: frames go out, and whoever does not take them is dropped before they fill the memory. */
import type { ServerResponse } from 'node:http'

/** What may lie unsent for one client, bytes. */
const MAX_UNSENT_BYTES = 1024 * 1024
/** How long one that does not read is waited for at the end, milliseconds. */
const END_WITHIN_MS = 5000

export interface Frame {
  /** What `Last-Event-ID` will name; absent: the one before stays. */
  readonly id?: string
  readonly event?: string
  readonly data?: string
}

export function frameOf({ id, event, data }: Frame): Buffer {
  const lines = [
    ...(id === undefined ? [] : [`id: ${id}`]),
    ...(event === undefined ? [] : [`event: ${event}`]),
    ...(data === undefined ? [] : [`data: ${data}`]),
  ]
  return Buffer.from(`${lines.join('\n')}\n\n`)
}

export class SseClient {
  readonly #response: ServerResponse

  /** @param headers of the server for every answer */
  constructor(response: ServerResponse, headers: Readonly<Record<string, number | string | string[] | undefined>>) {
    this.#response = response
    response.on('error', () => undefined)
    for (const [name, value] of Object.entries(headers)) if (value !== undefined) response.setHeader(name, value)
    response.writeHead(200, {
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-store, no-transform',
      // A proxy that gathers answers would gather for ever.
      'x-accel-buffering': 'no',
      'x-content-type-options': 'nosniff',
    })
  }

  get isGone(): boolean {
    return this.#response.destroyed || this.#response.writableEnded
  }

  send(bytes: Buffer): void {
    if (this.isGone) return
    if (this.#response.writableLength + bytes.length > MAX_UNSENT_BYTES) this.#response.destroy()
    else this.#response.write(bytes)
  }

  /** Resolves when what was sent has left, or the client has. */
  async drained(): Promise<void> {
    if (this.isGone || !this.#response.writableNeedDrain) return
    await new Promise<void>((resolve) => {
      const done = () => {
        this.#response.off('drain', done).off('close', done)
        resolve()
      }
      this.#response.once('drain', done).once('close', done)
    })
  }

  onGone(listener: () => void): void {
    this.#response.once('close', listener)
  }

  end(): void {
    if (this.isGone) return
    this.#response.end()
    const timer = setTimeout(() => this.#response.destroy(), END_WITHIN_MS)
    timer.unref()
    this.onGone(() => clearTimeout(timer))
  }
}
