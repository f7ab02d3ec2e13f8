/**
 * Where the sessions of a supervisor reach it: one socket, in a folder that nobody else can enter. Each session has a link
 * to it under a name of its own, so that another supervisor that adopts the session can point the link at itself. What a
 * session sends is never trusted to be well put, short or quick.
 */
import { createHash, randomUUID } from 'node:crypto'
import type { Stats } from 'node:fs'
import { access, lstat, mkdir, readdir, readlink, rename, rm, symlink } from 'node:fs/promises'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { messageOf, UserError } from '../kernel/errors.js'
import { Service } from '../kernel/service.js'
import { readLine } from './node-line.js'
import { answerLine, CONNECTION_MS, parseRequest, type SocketAnswer, type SocketRequest } from './socket-protocol.js'

export interface SessionSocketOptions {
  /** Made when it is missing; ours alone, or it is refused. Short: a socket's whole path has little room. */
  readonly folder: string
  /** The supervisor's incarnation. */
  readonly name: string
  readonly answer: (request: SocketRequest) => Promise<SocketAnswer>
}

/** A socket's path has 104 bytes on some systems, the end of the text included. */
const MAX_PATH_BYTES = 100
/** A socket that does not listen may be one that is being made; older than this it is not, milliseconds. */
const SURELY_MADE_MS = 60_000
/** A session that opens them without end must not use up the supervisor's files. */
const MAX_CONNECTIONS = 256

/** For all supervisors of this user on this host, so that one can adopt another's sessions. */
export function sessionSocketFolder(): string {
  return join(tmpdir(), `unstuck-${process.getuid?.() ?? 'user'}`)
}

export class SessionSocket extends Service {
  readonly path: string
  readonly #folder: string
  readonly #give: SessionSocketOptions['answer']
  readonly #connections = new Set<Socket>()
  #server: Server | undefined

  constructor({ folder, name, answer }: SessionSocketOptions) {
    super()
    this.#folder = folder
    this.#give = answer
    this.path = join(folder, `${name}.sock`)
  }

  /** @throws UserError when the folder is not ours alone, or its path too long */
  protected async onStart(): Promise<void> {
    checkLength(this.path)
    checkLength(this.#linkOf(''))
    await ensurePrivate(this.#folder)
    await removeDead(this.#folder).catch(() => undefined)
    // Half open: a client that says no more still hears the answer.
    const server = createServer({ allowHalfOpen: true }, (socket) => this.#serve(socket))
    server.maxConnections = MAX_CONNECTIONS
    this.#server = server
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(this.path, resolve)
    })
    // From now on an error is of one connection that could not be accepted: its session asks again.
    server.on('error', () => undefined)
  }

  protected async onStop(): Promise<void> {
    const server = this.#server
    if (!server) return
    await new Promise<void>((resolve) => {
      server.close(() => resolve())
      for (const socket of this.#connections) socket.destroy()
    })
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
    const leadsElsewhere = target !== basename(this.path) && (await exists(path))
    if (!leadsElsewhere) await rm(path, { force: true })
  }

  #linkOf(sessionFolder: string): string {
    return join(this.#folder, createHash('sha256').update(sessionFolder).digest('hex').slice(0, 12))
  }

  #serve(socket: Socket): void {
    this.#connections.add(socket)
    const limit = setTimeout(() => socket.destroy(), CONNECTION_MS)
    // Whoever hangs up does not want the answer.
    socket.on('error', () => undefined)
    socket.once('close', () => {
      clearTimeout(limit)
      this.#connections.delete(socket)
    })
    void this.#answer(socket).then((answer) => socket.end(answerLine(answer), () => socket.destroy()))
  }

  /** Never rejects. */
  async #answer(socket: Socket): Promise<SocketAnswer> {
    let request: SocketRequest
    try {
      request = parseRequest(await readLine(socket))
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

function checkLength(path: string): void {
  const bytes = Buffer.byteLength(path)
  if (bytes <= MAX_PATH_BYTES) return
  throw new UserError(
    'CONFIG_INVALID',
    `${path}: a socket's path of ${bytes} bytes is too long (at most ${MAX_PATH_BYTES}); set TMPDIR to a shorter folder`,
  )
}

async function ensurePrivate(folder: string): Promise<void> {
  try {
    await mkdir(folder, { mode: 0o700 })
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) {
      throw new UserError(
        'CONFIG_INVALID',
        `${folder}: the folder of the sessions' socket could not be made (${messageOf(error)}); set TMPDIR to a folder that may be written`,
        { cause: error },
      )
    }
  }
  const problem = privacyProblem(await lstat(folder))
  if (problem !== undefined) throw new UserError('CONFIG_INVALID', `${folder}: ${problem}`)
}

/** In a folder that all can write, another user may have been here first. */
function privacyProblem(stats: Stats): string | undefined {
  const fix = 'remove it, or set TMPDIR to another folder'
  if (stats.isSymbolicLink()) return `is a link, where the sessions' sockets need a folder of their own; ${fix}`
  if (!stats.isDirectory()) return `is no folder; ${fix}`
  if (stats.uid !== process.getuid?.()) return `belongs to another user; ${fix}`
  return (stats.mode & 0o077) === 0 ? undefined : 'others may enter it; run `chmod 700` on it'
}

/** Sockets of supervisors that were killed. */
async function removeDead(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    const path = join(folder, name)
    if (name.endsWith('.sock') && (await isOld(path)) && (await isDeaf(path))) await rm(path, { force: true })
  }
}

async function isOld(path: string): Promise<boolean> {
  return Date.now() - (await lstat(path)).mtimeMs > SURELY_MADE_MS
}

/** One that is stopped or busy still lets in. */
function isDeaf(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path, () => {
      socket.destroy()
      resolve(false)
    })
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code === 'ECONNREFUSED'))
  })
}

function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}
