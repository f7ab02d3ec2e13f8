/**
 * A supervisor's way out when Redis is away or its main thread is blocked: a socket of the sentinel's own, for the same
 * user on the same host. It opens no port. A supervisor works without it: that it cannot be had is told, and no more.
 */
import { chmod, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { hasCode, messageOf, UserError } from '../kernel/errors.js'
import { Service } from '../kernel/service.js'
import { askLine, LineServer } from '../platform/line-socket.js'
import { checkSocketFolder, checkSocketPath, ensureSocketFolder, isDeaf, removeDeadSockets } from '../platform/socket-folder.js'
import type { Dump } from './dump.js'
import { askText, type DumpAsk, type DumpReply, MAX_ASK, parseAsk, parseReply, replyText } from './dump-protocol.js'
import type { DumpTarget } from './dump-request.js'
import { threadUnknown } from './dump-target.js'

export interface DumpSocketOptions {
  /** `socketFolder()`; made when it is missing. */
  readonly folder: string
  /** Name of the supervisor. */
  readonly supervisor: string
  readonly take: (targets: 'all' | readonly DumpTarget[], deep: boolean) => Promise<readonly Dump[]>
  /** There can be no socket; the message says why, and the way out. */
  readonly onError: (error: Error) => void
}

const SUFFIX = '.dump'
/** Each may cost a dump of all threads. */
const MAX_CONNECTIONS = 16
const REQUEST_MS = 5000
/** A deep dump takes seconds for each thread; whoever asks for it waits no longer either. */
const ANSWER_MS = 120_000
/** A thousand threads at the size that a dump may have. */
const MAX_REPLY = 64 * 1024 * 1024

export class DumpSocket extends Service {
  readonly path: string
  readonly #options: DumpSocketOptions
  #server: LineServer | undefined

  constructor(options: DumpSocketOptions) {
    super()
    this.#options = options
    this.path = pathOf(options.folder, options.supervisor)
  }

  /** Never throws. */
  protected async onStart(): Promise<void> {
    try {
      await this.#open()
    } catch (error) {
      const why = messageOf(error)
      this.#options.onError(new Error(`no \`unstuck dump --local\` of this supervisor: ${why}`, { cause: error }))
    }
  }

  protected async onStop(): Promise<void> {
    await this.#server?.close()
  }

  async #open(): Promise<void> {
    const { folder } = this.#options
    checkSocketPath(this.path)
    await ensureSocketFolder(folder)
    await removeDeadSockets(folder, SUFFIX).catch(() => undefined)
    const server = await this.#listen().catch(async (error: unknown) => {
      await this.#clearAway(error)
      return this.#listen()
    })
    this.#server = server
    // The folder lets nobody else in; this holds when somebody has changed that.
    await chmod(this.path, 0o600).catch(async (error: unknown) => {
      await server.close()
      throw error
    })
  }

  async #listen(): Promise<LineServer> {
    const server = new LineServer({
      path: this.path,
      maxConnections: MAX_CONNECTIONS,
      maxBytes: MAX_ASK,
      requestMs: REQUEST_MS,
      answerMs: ANSWER_MS,
      answer: async (request) => replyText(await this.#answer(request)),
    })
    await server.listen()
    return server
  }

  /** The socket that stands in the way, when it is of a process that died. @throws why it stays */
  async #clearAway(error: unknown): Promise<void> {
    if (!hasCode(error, 'EADDRINUSE')) throw error
    if (await isDeaf(this.path)) return rm(this.path, { force: true })
    throw new Error(`${this.path}: a living supervisor of the same name has it; name each supervisor of a host differently`)
  }

  /** Never rejects. */
  async #answer(line: Promise<string>): Promise<DumpReply> {
    let ask: DumpAsk
    try {
      ask = parseAsk(await line)
    } catch (error) {
      return { ok: false, error: `the request was not understood: ${messageOf(error)}` }
    }
    try {
      return { ok: true, dumps: await this.#options.take(ask.targets, ask.deep) }
    } catch (error) {
      return { ok: false, error: `no dump could be taken: ${messageOf(error)}` }
    }
  }
}

/**
 * Asks the sentinel of a supervisor on this host; needs no Redis.
 * @param limitMs until all dumps are there
 * @throws UserError INPUT_INVALID for what is no name, SENTINEL_UNREACHABLE when nobody answers, DUMP_REFUSED, THREAD_UNKNOWN
 */
export async function askLocally(
  folder: string,
  supervisor: string,
  targets: 'all' | readonly DumpTarget[],
  deep: boolean,
  limitMs: number,
): Promise<readonly Dump[]> {
  if (!/^[A-Za-z0-9._-]{1,64}$/.test(supervisor))
    throw new UserError('INPUT_INVALID', 'supervisor: a name has 1 to 64 letters, digits, ".", "_" or "-"; correct it')
  const reply = await exchange(folder, supervisor, { targets, deep }, limitMs)
  if (!reply.ok) throw new UserError('DUMP_REFUSED', `supervisor:${supervisor}: ${reply.error}; try again`)
  if (reply.dumps.length === 0 && targets !== 'all')
    throw threadUnknown(supervisor, targets, 'leave it out to see those that there are')
  return reply.dumps
}

async function exchange(folder: string, supervisor: string, ask: DumpAsk, limitMs: number): Promise<DumpReply> {
  try {
    await checkSocketFolder(folder)
    return parseReply(await askLine(pathOf(folder, supervisor), askText(ask), { limitMs, maxBytes: MAX_REPLY }))
  } catch (error) {
    const names = await listening(folder)
    const fix = `run it on the host of the supervisor, as its user and with its TMPDIR (${names} here)`
    const message = `supervisor:${supervisor}: its sentinel cannot be asked in ${folder} (${messageOf(error)}); ${fix}`
    throw new UserError('SENTINEL_UNREACHABLE', message, { cause: error })
  }
}

async function listening(folder: string): Promise<string> {
  const files = await readdir(folder).catch(() => [])
  const names = files.filter((file) => file.endsWith(SUFFIX)).map((file) => file.slice(0, -SUFFIX.length))
  return names.length === 0 ? 'there is none' : names.sort().slice(0, MAX_NAMES).join(', ')
}

const MAX_NAMES = 20

function pathOf(folder: string, supervisor: string): string {
  return join(folder, `${supervisor}${SUFFIX}`)
}
