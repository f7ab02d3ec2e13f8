/**
 * Sessions as child processes. Owns the processes and the files in a session's folder; knows nothing of jobs, and never
 * touches a workspace.
 *
 * A session is the process group of its shim (child-session-shim), which has the log, the exit file, and a control pipe
 * that ends the group when this process is gone. While it is silent it costs nothing here: no timer, no stream that is
 * read. When the shim has ended the group is emptied, so that after `ended` nothing of it runs.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import type { Duplex } from 'node:stream'
import { hasCode, messageOf } from '../kernel/errors.js'
import { AttachedSessions, KILL_LIMIT_MS, LINGER_MS, settle } from './child-attached.js'
import {
  findGroup,
  isAlive,
  isEmptied,
  signalGroup,
  signalOwnGroup,
  startNow,
  startOf,
  startUnknown,
} from './child-process-id.js'
import { findProgram } from './child-program.js'
import { discardFiles, prepareFolder, readSigns, readTail } from './child-session-folder.js'
import { SHIM_NAME, shimArgs } from './child-session-shim.js'
import { findTmux, paneFile, startPane } from './child-tmux.js'
import { removeTree } from './node-folders.js'
import {
  LaunchError,
  type ProcessId,
  type SessionEnd,
  type SessionProcess,
  type SessionSigns,
  type SessionSpec,
  type Sessions,
} from './session.js'

const SHELL = '/bin/sh'

export class ChildSessions implements Sessions {
  readonly #attached = new AttachedSessions()

  async resolve(command: string, env: Readonly<Record<string, string>>, inTmux: boolean): Promise<string> {
    if (inTmux) await findTmux(env)
    return findProgram(command, env)
  }

  async spawn(spec: SessionSpec): Promise<SessionProcess> {
    try {
      await prepareFolder(spec)
      return spec.tmux === undefined ? await started(spec) : await this.#inTmux(spec, spec.tmux)
    } catch (error) {
      await discardFiles(spec.folder)
      throw error instanceof LaunchError ? error : notStarted(error)
    }
  }

  async #inTmux(spec: SessionSpec, name: string): Promise<SessionProcess> {
    const pane = await startPane(spec, name)
    const session = this.attach(pane.id, spec.folder)
    void session.ended.then(() => pane.close())
    return {
      ...session,
      release: () => {
        if (spec.survives) pane.release()
      },
    }
  }

  attach(id: ProcessId, folder: string): SessionProcess {
    return {
      id,
      ended: this.#attached.gone(id, folder).then(() => settle(id, folder, '')),
      release: () => undefined,
      term: () => void signalGroup(id, 'SIGTERM'),
      kill: () => void signalGroup(id, 'SIGKILL'),
    }
  }

  isAlive(id: ProcessId): Promise<boolean> {
    return isAlive(id)
  }

  find(folder: string): Promise<ProcessId | undefined> {
    const shim = `${SHIM_NAME} ${folder} `
    const pane = paneFile(folder)
    return findGroup((args) => {
      if (args.length === 1) return args[0]?.includes(shim) === true || args[0]?.startsWith(`${SHELL} ${pane}`) === true
      return args[0] === SHELL && ((args[3] === SHIM_NAME && args[4] === folder) || args[1] === pane)
    })
  }

  async end(id: ProcessId, graceMs: number): Promise<void> {
    if (!(await isAlive(id))) return
    await signalGroup(id, 'SIGTERM')
    if (await isEmptied(id, graceMs)) return
    await signalGroup(id, 'SIGKILL')
    if (await isEmptied(id, KILL_LIMIT_MS)) return
    throw new Error(`session ${id.pid}: something of its process group is still there ${KILL_LIMIT_MS / 1000} s after SIGKILL`)
  }

  signs(folder: string): Promise<SessionSigns> {
    return readSigns(folder)
  }

  tail(folder: string, maxBytes: number): Promise<string> {
    return readTail(folder, maxBytes)
  }

  remove(folder: string): Promise<void> {
    return removeTree(folder)
  }
}

async function started(spec: SessionSpec): Promise<SessionProcess> {
  const child = spawn(SHELL, [...shimArgs(spec.folder, spec), spec.command, ...spec.args], {
    cwd: spec.cwd,
    env: spec.env,
    detached: true,
    stdio: ['ignore', 'ignore', 'ignore', 'pipe'],
  })
  // Before anything else of this process runs: until then even one that has ended is there to be asked.
  const startedAt = child.pid === undefined ? undefined : startNow(child.pid)
  const exited = new Promise<string>((resolve) => child.once('exit', (code, signal) => resolve(signal ?? `exit code ${code}`)))
  await new Promise<void>((resolve, reject) => {
    child.once('spawn', resolve)
    child.once('error', reject)
  })
  const pid = child.pid ?? 0
  return new OwnSession(child, { pid, startedAt: startedAt ?? (await startOf(pid)) ?? startUnknown() }, spec, exited)
}

/** A child of this process. */
class OwnSession implements SessionProcess {
  readonly id: ProcessId
  readonly ended: Promise<SessionEnd>
  readonly #survives: boolean
  readonly #control: Duplex | undefined
  #gone = false
  #linger: NodeJS.Timeout | undefined

  constructor(child: ChildProcess, id: ProcessId, { folder, survives }: SessionSpec, exited: Promise<string>) {
    this.id = id
    this.#survives = survives
    this.#control = child.stdio[3] as Duplex | undefined
    child.on('error', () => undefined)
    this.#control?.on('error', () => undefined)
    this.#control?.once('data', () => this.#lingerOn())
    this.ended = exited.then((how) => this.#end(folder, how))
  }

  /** The command has ended, and the shim waits for its output's last holder. */
  #lingerOn(): void {
    this.#linger ??= setTimeout(() => this.kill(), LINGER_MS)
  }

  #end(folder: string, how: string): Promise<SessionEnd> {
    this.#gone = true
    clearTimeout(this.#linger)
    this.#control?.destroy()
    return settle(this.id, folder, ` (${how})`)
  }

  release(): void {
    if (this.#survives && !this.#gone) this.#control?.write('release\n')
  }

  term(): void {
    this.#signal('SIGTERM')
  }

  kill(): void {
    this.#signal('SIGKILL')
  }

  #signal(signal: NodeJS.Signals): void {
    // Until its end was told to us its number is its own.
    if (this.#gone) void signalGroup(this.id, signal)
    else signalOwnGroup(this.id.pid, signal)
  }
}

function notStarted(error: unknown): LaunchError {
  if (hasCode(error, 'E2BIG')) {
    return new LaunchError(
      'session: its arguments and environment are too long for the system; pass less of the job data in session.args',
      {
        permanent: true,
        cause: error,
      },
    )
  }
  // Node's own words quote the argument, which may be of the job's data.
  if (hasCode(error, 'ERR_INVALID_ARG_VALUE')) {
    return new LaunchError('session: an argument or a variable of its environment holds a NUL byte', { permanent: true })
  }
  return new LaunchError(`session: could not be started: ${messageOf(error)}`, { cause: error })
}
