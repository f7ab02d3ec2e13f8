/** Where the sockets of a user's supervisors lie on a host: one folder that nobody else can enter. */
import type { Stats } from 'node:fs'
import { lstat, mkdir, readdir, rm, stat } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { hasCode, messageOf, UserError } from '../kernel/errors.js'

/** A socket's path has 104 bytes on some systems, the end of the text included. */
const MAX_PATH_BYTES = 100
/** A socket that does not listen may be one that is being made; older than this it is not, milliseconds. */
const SURELY_MADE_MS = 60_000

/** For all supervisors of this user on this host, so that one can adopt another's sessions. */
export function socketFolder(): string {
  return join(tmpdir(), `unstuck-${process.getuid?.() ?? 'user'}`)
}

/** @throws UserError CONFIG_INVALID when a system may refuse it */
export function checkSocketPath(path: string): void {
  const bytes = Buffer.byteLength(path)
  if (bytes <= MAX_PATH_BYTES) return
  throw new UserError(
    'CONFIG_INVALID',
    `${path}: a socket's path of ${bytes} bytes is too long (at most ${MAX_PATH_BYTES}); set TMPDIR to a shorter folder`,
  )
}

/** Makes it when it is missing. @throws UserError CONFIG_INVALID when it is not ours alone */
export async function ensureSocketFolder(folder: string): Promise<void> {
  try {
    await mkdir(folder, { mode: 0o700 })
  } catch (error) {
    if (!hasCode(error, 'EEXIST')) {
      throw new UserError(
        'CONFIG_INVALID',
        `${folder}: the folder of the supervisors' sockets could not be made (${messageOf(error)}); set TMPDIR to a folder that may be written`,
        { cause: error },
      )
    }
  }
  await checkSocketFolder(folder)
}

/** In a folder that all can write, another user may have been here first. @throws when it is missing or not ours alone */
export async function checkSocketFolder(folder: string): Promise<void> {
  const problem = privacyProblem(await lstat(folder))
  if (problem !== undefined) throw new UserError('CONFIG_INVALID', `${folder}: ${problem}`)
}

function privacyProblem(stats: Stats): string | undefined {
  const fix = 'remove it, or set TMPDIR to another folder'
  if (stats.isSymbolicLink()) return `is a link, where the supervisors' sockets need a folder of their own; ${fix}`
  if (!stats.isDirectory()) return `is no folder; ${fix}`
  if (stats.uid !== process.getuid?.()) return `belongs to another user; ${fix}`
  return (stats.mode & 0o077) === 0 ? undefined : 'others may enter it; run `chmod 700` on it'
}

/** Clears away sockets whose supervisors were killed, and links that led to such. @param suffix of the sockets that are looked at */
export async function removeDeadSockets(folder: string, suffix: string): Promise<void> {
  for (const name of await readdir(folder)) {
    const path = join(folder, name)
    const dead = name.endsWith(suffix) ? isDeaf : leadsNowhere
    if ((await isOld(path)) && (await dead(path))) await rm(path, { force: true })
  }
}

/** Whoever adopts a session makes its link anew. */
async function leadsNowhere(path: string): Promise<boolean> {
  if (!(await lstat(path)).isSymbolicLink()) return false
  return stat(path).then(
    () => false,
    () => true,
  )
}

async function isOld(path: string): Promise<boolean> {
  return Date.now() - (await lstat(path)).mtimeMs > SURELY_MADE_MS
}

/** Nobody listens there. A process that is stopped or busy still lets in. */
export function isDeaf(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path, () => {
      socket.destroy()
      resolve(false)
    })
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code === 'ECONNREFUSED'))
  })
}
