/**
 * Sessions in tmux, where a person can look on and type: `tmux -L unstuck attach -t NAME`. The pane's process leads a
 * group of its own that does what the shim does (child-session-shim), and is watched like a session that was adopted:
 * it is a child of the tmux server.
 */
import { execFile } from 'node:child_process'
import { open, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { signalGroup, startOf, startUnknown } from './child-process-id.js'
import { findProgram } from './child-program.js'
import { paneLogScript, paneScript, quoted } from './child-session-shim.js'
import { LaunchError, type ProcessId, type SessionSpec } from './session.js'

const run = promisify(execFile)

/** Name of the server's socket: a person's own tmux has nothing to do with ours. */
const SERVER = 'unstuck'
/** tmux and mkfifo answer within this, milliseconds. */
const LIMIT_MS = 10_000

/** Server and sessions see nothing of each other's environment; what the terminal needs is tmux's. */
const START = 'exec env -i TERM="$TERM" TMUX="$TMUX" TMUX_PANE="$TMUX_PANE" /bin/sh "$1"'

export interface Pane {
  readonly id: ProcessId
  /** From now on it goes on without this process. */
  release(): void
  /** It has ended. */
  close(): void
}

export const paneFile = (folder: string) => join(folder, 'pane')

/** @throws LaunchError (permanent) */
export async function findTmux(env: Readonly<Record<string, string>>): Promise<string> {
  return findProgram('tmux', env).catch((error: unknown) => {
    throw new LaunchError('tmux: not found on PATH; install tmux or set session.tmux to false', {
      permanent: true,
      cause: error,
    })
  })
}

/** Starts it in a folder that is prepared. @throws LaunchError */
export async function startPane(spec: SessionSpec, name: string): Promise<Pane> {
  const tmux = await findTmux(spec.env)
  const { folder } = spec
  const env = { ...spec.env, UNSTUCK_INPUT_FILE: join(folder, 'input') }
  const log = join(folder, 'pane-log')
  await writeFile(paneFile(folder), paneScript({ ...spec, env }), { mode: 0o600 })
  await writeFile(log, paneLogScript(folder, spec.logBytes), { mode: 0o600 })
  const control = join(folder, 'control')
  await run('mkfifo', ['-m', '600', control], { timeout: LIMIT_MS })
  // For reading too: opening only for writing waits for a reader.
  const pipe = await open(control, 'r+')
  const close = () => void pipe.close().catch(() => undefined)
  try {
    const pid = await newSession(
      tmux,
      name,
      ['/bin/sh', '-c', START, 'unstuck', paneFile(folder)],
      `exec /bin/sh ${quoted(log)}`,
    )
    return {
      id: { pid, startedAt: (await startOf(pid)) ?? startUnknown() },
      release: () => void pipe.write('release\n').catch(() => undefined),
      close,
    }
  } catch (error) {
    close()
    throw error
  }
}

/** @returns the process id of its pane */
async function newSession(tmux: string, name: string, command: readonly string[], pipeTo: string): Promise<number> {
  // In one call: the server reads nothing from the pane before it pipes.
  const create = ['new-session', '-d', '-P', '-F', '#{pane_pid}', '-s', name, '-x', '200', '-y', '50', ...command.map(literal)]
  const pipe = ['pipe-pane', literal(pipeTo.replaceAll('#', '##').replaceAll('%', '%%'))]
  const { stdout } = await run(tmux, ['-u', '-L', SERVER, '-f', '/dev/null', ...create, ';', ...pipe], {
    env: serverEnv(),
    cwd: '/',
    timeout: LIMIT_MS,
  }).catch(async (error: unknown) => {
    // It may have started, and only its output not be piped.
    await endPane(pidIn(error instanceof Error && 'stdout' in error ? String(error.stdout) : ''))
    const said = error instanceof Error && 'stderr' in error ? String(error.stderr).trim() : ''
    throw new LaunchError(`tmux: the session could not be started${said === '' ? '' : `: ${said}`}`, { cause: error })
  })
  const pid = pidIn(stdout)
  if (pid === undefined) throw new LaunchError('tmux: it did not say which process it started')
  return pid
}

function pidIn(output: string): number | undefined {
  const digits = /^(\d+)\s*$/.exec(output)?.[1]
  return digits === undefined ? undefined : Number(digits)
}

async function endPane(pid: number | undefined): Promise<void> {
  const startedAt = pid === undefined ? undefined : await startOf(pid)
  if (pid !== undefined && startedAt !== undefined) await signalGroup({ pid, startedAt }, 'SIGKILL')
}

/** To tmux a `;` at the end of an argument ends the command. */
function literal(argument: string): string {
  return argument.endsWith(';') ? `${argument.slice(0, -1)}\\;` : argument
}

/** The server keeps what its first client brings. */
function serverEnv(): NodeJS.ProcessEnv {
  const { HOME, TMUX_TMPDIR, LANG } = process.env
  return {
    PATH: '/usr/local/bin:/usr/bin:/bin',
    SHELL: '/bin/sh',
    ...(HOME === undefined ? {} : { HOME }),
    ...(LANG === undefined ? {} : { LANG }),
    ...(TMUX_TMPDIR === undefined ? {} : { TMUX_TMPDIR }),
  }
}
