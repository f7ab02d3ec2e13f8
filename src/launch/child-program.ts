/** Finds the program that a session runs, so that one that is not there is said before anything is made for it. */
import { constants, type Stats } from 'node:fs'
import { access, stat } from 'node:fs/promises'
import { delimiter, isAbsolute, join } from 'node:path'
import { hasCode } from '../kernel/errors.js'
import { LaunchError } from './session.js'

const ANY_EXECUTE = 0o111

/**
 * @param command an absolute path, or a name that is looked for on the PATH of `env`, never in the working folder
 * @throws LaunchError (permanent)
 */
export async function findProgram(command: string, env: Readonly<Record<string, string>>): Promise<string> {
  if (isAbsolute(command)) {
    const problem = await problemWith(command)
    if (problem !== undefined) throw refused(command, problem)
    return command
  }
  if (command === '' || command.includes('/'))
    throw refused(command, 'neither a name nor an absolute path; correct session.command')
  return findOnPath(command, env['PATH'])
}

async function findOnPath(name: string, path: string | undefined): Promise<string> {
  const folders = (path ?? '').split(delimiter).filter((part) => isAbsolute(part))
  // All at once: one after the other they are half of what a launch waits for.
  const found = await Promise.all(
    folders.map(async (folder) => {
      const candidate = join(folder, name)
      return { candidate, problem: await problemWith(candidate) }
    }),
  )
  const fit = found.find(({ problem }) => problem === undefined)
  if (fit) return fit.candidate
  const unfit = found.flatMap(({ candidate, problem }) => (problem === MISSING ? [] : [`${candidate}: ${problem}`]))[0]
  throw refused(name, unfit ?? 'not found on PATH; install it, or give its path in session.command')
}

const MISSING = 'no such file; correct session.command'

async function problemWith(path: string): Promise<string | undefined> {
  let stats: Stats
  try {
    stats = await stat(path)
  } catch (error) {
    return hasCode(error, 'EACCES') ? 'permission denied; allow the supervisor to enter its folder' : MISSING
  }
  if (stats.isDirectory()) return 'a folder; name a program in session.command'
  if (!stats.isFile()) return 'not a regular file; name a program in session.command'
  // To root the system grants more than it can do: without any x nothing can be executed.
  const allowed = (stats.mode & ANY_EXECUTE) !== 0 && (await isGranted(path))
  return allowed ? undefined : 'permission denied; run chmod +x on it'
}

async function isGranted(path: string): Promise<boolean> {
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  )
}

function refused(command: string, problem: string): LaunchError {
  // Quoted as JSON does it, but for the quotes: what a name holds must not break the line.
  return new LaunchError(`command ${JSON.stringify(command).slice(1, -1)}: ${problem}`, { permanent: true })
}
