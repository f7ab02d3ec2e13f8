/**
 * Where the sessions of a supervisor reach it: one socket, in a folder that nobody else can enter. Each session has a link
 * to it under a name of its own, so that another supervisor that adopts the session can point the link at itself. What a
 * session sends is never trusted to be well put, short or quick.
 */
import { createHash, randomUUID } from 'node:crypto'
import { readlink, rename, rm, symlink } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { messageOf } from '../kernel/errors.js'
import { Service } from '../kernel/service.js'
import { LineServer } from '../platform/line-socket.js'
import { checkSocketPath, ensureSocketFolder, removeDeadSockets } from '../platform/socket-folder.js'
import { isThere } from './node-folders.js'
import { answerLine, CONNECTION_MS, MAX_LINE, parseRequest, type SocketAnswer, type SocketRequest } from './socket-protocol.js'

export interface SessionSocketOptions {
  /** Made when it is missing; ours alone, or it is refused. Short: a socket's whole path has little room. */
  readonly folder: string
  /** The supervisor's incarnation. */
  readonly name: string
  readonly answer: (request: SocketRequest) => Promise<SocketAnswer>
}

/** A session that opens them without end must not use up the supervisor's files. */
const MAX_CONNECTIONS = 256

export class SessionSocket extends Service {
  readonly path: string
  readonly #folder: string
  readonly #give: SessionSocketOptions['answer']
  #server: LineServer | undefined

  constructor({ folder, name, answer }: SessionSocketOptions) {
    super()
    this.#folder = folder
    this.#give = answer
    this.path = join(folder, `${name}.sock`)
  }

  /** @throws UserError when the folder is not ours alone, or its path too long */
  protected async onStart(): Promise<void> {
    checkSocketPath(this.path)
    checkSocketPath(this.#linkOf(''))
    await ensureSocketFolder(this.#folder)
    await removeDeadSockets(this.#folder, '.sock').catch(() => undefined)
    this.#server = new LineServer({
      path: this.path,
      maxConnections: MAX_CONNECTIONS,
      maxBytes: MAX_LINE,
      requestMs: CONNECTION_MS,
      answerMs: CONNECTION_MS,
      answer: async (request) => answerLine(await this.#answer(request)),
    })
    await this.#server.listen()
  }

  protected async onStop(): Promise<void> {
    await this.#server?.close()
  }

  /** Leads the session in that folder here, wherever it led before. @returns the path for the session */
  async link(sessionFolder: string): Promise<string> {
    const path = this.#linkOf(sessionFolder)
    const made = `${path}.${randomUUID().slice(0, 8)}`
    try {
      await symlink(basename(this.path), made)
      await rename(made, path)
    } catch (error) {
      await rm(made, { force: true })
      throw error
    }
    return path
  }

  /** The session has ended. A link that another living supervisor has taken over stays. */
  async unlink(sessionFolder: string): Promise<void> {
    const path = this.#linkOf(sessionFolder)
    const target = await readlink(path).catch(() => undefined)
    if (target === undefined) return
    const leadsElsewhere = target !== basename(this.path) && (await isThere(path))
    if (!leadsElsewhere) await rm(path, { force: true })
  }

  #linkOf(sessionFolder: string): string {
    return join(this.#folder, createHash('sha256').update(sessionFolder).digest('hex').slice(0, 12))
  }

  /** Never rejects. */
  async #answer(line: Promise<string>): Promise<SocketAnswer> {
    let request: SocketRequest
    try {
      request = parseRequest(await line)
    } catch (error) {
      return { ok: false, error: `the request was not understood: ${messageOf(error)}`, unsure: true }
    }
    try {
      return await this.#give(request)
    } catch (error) {
      return { ok: false, error: `the supervisor could not answer: ${messageOf(error)}`, unsure: true }
    }
  }
}
