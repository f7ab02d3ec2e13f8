/**
 * One line each way over a Unix socket: a request, an answer, and the connection is over. Whoever is on the other end is
 * never trusted to be short or quick.
 */
import { connect, createServer, type Server, type Socket } from 'node:net'

export interface LineServerOptions {
  readonly path: string
  /** Further ones are turned away: clients that open them without end must not use up our files. */
  readonly maxConnections: number
  /** Longest request, bytes. */
  readonly maxBytes: number
  /** A request that takes longer to come is not waited for, milliseconds. */
  readonly requestMs: number
  /** An answer that takes longer is not given any more, milliseconds. */
  readonly answerMs: number
  /** Never rejects. @param request rejects when it is too long or the connection ends */
  readonly answer: (request: Promise<string>) => Promise<string>
}

export class LineServer {
  readonly #options: LineServerOptions
  readonly #server: Server
  readonly #connections = new Set<Socket>()

  constructor(options: LineServerOptions) {
    this.#options = options
    // Half open: a client that says no more still hears the answer.
    this.#server = createServer({ allowHalfOpen: true }, (socket) => this.#serve(socket))
    this.#server.maxConnections = options.maxConnections
  }

  /** @throws when the path is taken or cannot be made */
  async listen(): Promise<void> {
    const server = this.#server
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(this.#options.path, () => {
        server.off('error', reject)
        resolve()
      })
    })
    // From now on an error is of one connection that could not be accepted: its client asks again.
    server.on('error', () => undefined)
  }

  /** Removes the socket and hangs up on everybody. Also after a `listen` that failed. */
  async close(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve())
      for (const socket of this.#connections) socket.destroy()
    })
  }

  #serve(socket: Socket): void {
    const { maxBytes, requestMs, answerMs, answer } = this.#options
    let limit: NodeJS.Timeout | undefined
    const hangUpIn = (ms: number) => {
      clearTimeout(limit)
      if (!socket.destroyed) limit = setTimeout(() => socket.destroy(), ms)
    }
    this.#connections.add(socket)
    hangUpIn(requestMs)
    // Whoever hangs up does not want the answer.
    socket.on('error', () => undefined)
    socket.once('close', () => {
      clearTimeout(limit)
      this.#connections.delete(socket)
    })
    const request = readLine(socket, maxBytes).finally(() => hangUpIn(answerMs))
    void answer(request).then((line) => socket.end(line, () => socket.destroy()))
  }
}

export interface AskLimits {
  /** Until the whole answer is there, milliseconds. */
  readonly limitMs: number
  /** Longest answer, bytes. */
  readonly maxBytes: number
}

/** @throws Error when nobody listens there, or no answer comes in time */
export async function askLine(path: string, request: string, { limitMs, maxBytes }: AskLimits): Promise<string> {
  const socket = connect(path)
  const limit = setTimeout(() => socket.destroy(new Error(`no answer within ${limitMs / 1000} s`)), limitMs)
  try {
    socket.write(request)
    return await readLine(socket, maxBytes)
  } finally {
    clearTimeout(limit)
    socket.destroy()
  }
}

/**
 * Resolves with the first line, or with all there is when the other end says no more. What comes after it is dropped.
 * @throws Error when it is too long or the connection ends
 */
function readLine(socket: Socket, maxBytes: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let size = 0
    const settle = (how: () => void) => {
      socket.off('data', take)
      chunks.length = 0
      socket.resume()
      how()
    }
    const finish = () => {
      const line = Buffer.concat(chunks).toString('utf8').split('\n', 1)[0] ?? ''
      settle(() => resolve(line))
    }
    const take = (chunk: Buffer) => {
      chunks.push(chunk)
      size += chunk.length
      if (size > maxBytes) settle(() => reject(new Error(`it is longer than ${maxBytes} bytes`)))
      else if (chunk.includes(0x0a)) finish()
    }
    socket.on('data', take)
    socket.once('end', finish)
    socket.once('error', reject)
    socket.once('close', () => reject(new Error('the connection was closed')))
  })
}
