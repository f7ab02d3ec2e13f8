/**
 * Runs git, one command a time, so that nothing of the repository's hooks and nothing of our own environment has a say in
 * it, and so that it always ends: at its limit or when it is asked to, it is stopped with all that it started.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { realpath } from 'node:fs/promises'
import { dirname } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { LaunchError } from './session.js'

export interface GitOptions {
  /** Default: that of this process. */
  readonly env?: NodeJS.ProcessEnv
  /** How long one command may take, milliseconds. Default 60 000: a checkout of a large repository on a slow disk. */
  readonly limitMs?: number
}

interface GitCall {
  readonly signal?: AbortSignal | undefined
  /** For its standard input. */
  readonly input?: string
}

export interface Worktree {
  readonly path: string
  /** Full name of the branch that is checked out there. */
  readonly branch: string | undefined
  readonly commit: string | undefined
  /** The repository's own, not one that was added to it. */
  readonly main: boolean
}

/** What git said when it refused. */
export class GitError extends LaunchError {
  /** There is no repository: it is gone, or never was. */
  readonly noRepository: boolean
  /** It said no without a word, as it does when asked whether something exists. */
  readonly silent: boolean
  /** Another git is at work there: it may do in a moment. */
  readonly passing: boolean
  /** Absolute path of the lock file that stands in the way. */
  readonly lock: string | undefined

  constructor(folder: string, command: string, stderr: string) {
    const refusal = REFUSALS.find(({ said }) => said.test(stderr))
    const line = firstComplaint(stderr)
    super(`${folder}: ${refusal ? refusal.message(folder, line) : `git ${command}: ${line}`}`, {
      permanent: refusal?.permanent ?? false,
    })
    this.silent = stderr === ''
    this.noRepository = /not a git repository/i.test(stderr)
    this.lock = LOCKED.exec(stderr)?.[1]
    this.passing = this.lock !== undefined || HALF_MADE.test(stderr)
  }
}

/** Seen while another git adds or removes a worktree; for ever when one was killed at that. */
const HALF_MADE = /failed to read .*\/worktrees\/[^/]+\/\w+/i
const LOCKED = /Unable to create '([^']+\.lock)': File exists/i

interface Refusal {
  readonly said: RegExp
  readonly permanent: boolean
  readonly message: (folder: string, line: string) => string
}

/** Refusals whose fix we know. Whatever is not in here may pass by itself, so it is not permanent. */
const REFUSALS: readonly Refusal[] = [
  {
    said: /dubious ownership/i,
    permanent: true,
    message: (folder) => `it belongs to another user; run git config --global --add safe.directory '${folder}'`,
  },
  {
    said: /not a git repository/i,
    permanent: true,
    message: () => 'no git repository; name the top folder of one',
  },
  {
    said: /permission denied(?! \()/i,
    permanent: true,
    message: (_, line) => `permission denied; let the user of the supervisor read and write there (git: ${line})`,
  },
  {
    said: /no space left|quota exceeded/i,
    permanent: false,
    message: (_, line) => `no space left on the device; free some (git: ${line})`,
  },
  {
    said: /exists; cannot create/i,
    permanent: true,
    message: (_, line) => `a branch stands in the way; rename it (git: ${line})`,
  },
  {
    said: HALF_MADE,
    permanent: false,
    message: (_, line) => `a worktree is registered by halves; remove its registration when no git runs (git: ${line})`,
  },
  {
    said: LOCKED,
    permanent: false,
    message: (_, line) => `locked by another git, or by one that was killed; remove the lock when no git runs (git: ${line})`,
  },
]

function firstComplaint(stderr: string): string {
  const lines = stderr.split('\n').map((line) => line.trim())
  const line = lines.find((text) => /^(fatal|error):/.test(text)) ?? lines.findLast((text) => text !== '') ?? 'it failed'
  return line.replace(/^(fatal|error): /, '').slice(0, 300)
}

/** A repository's hooks and watchers are not what a job was configured to run; submodules are for the job to fetch. */
const SETTINGS = ['core.hooksPath=/dev/null', 'core.fsmonitor=false', 'submodule.recurse=false', 'advice.detachedHead=false']
/** Of git's own variables only those that say how to reach, not which repository or index is meant. */
const KEPT = /^GIT_(CONFIG_(GLOBAL|SYSTEM|NOSYSTEM|COUNT|KEY_\d+|VALUE_\d+)|EXEC_PATH|SSH(_COMMAND|_VARIANT)?|SSL_\w+)$/
const LIMIT_MS = 60_000
/** At TERM git removes its locks and what it had half made; then KILL, milliseconds. */
const TERM_MS = 1000
/** A daemon that git left behind may hold its output open; nobody waits for that longer, milliseconds. */
const OUTPUT_MS = 500
/** Waits between tries while another git is at work, milliseconds; for a lock git itself waits up to a second in each. */
const WAITS_MS = [100, 300, 900]
/** Of what git complains, so much is kept, characters. */
const STDERR_LIMIT = 16_384

export class Git {
  readonly #env: NodeJS.ProcessEnv
  readonly #limitMs: number

  constructor({ env = process.env, limitMs = LIMIT_MS }: GitOptions = {}) {
    this.#env = env
    this.#limitMs = limitMs
  }

  /**
   * Runs a command in exactly that repository or worktree, never in one above it; waits a while for another git there.
   * @returns its standard output
   * @throws GitError when git refuses, another LaunchError when it is missing, stopped, or took too long
   */
  async run(folder: string, args: readonly string[], call: GitCall = {}): Promise<string> {
    for (const waitMs of WAITS_MS) {
      try {
        return await this.#once(folder, args, call)
      } catch (error) {
        if (!(error instanceof GitError && error.passing)) throw error
        // Not in step with the other.
        await delay(waitMs * (0.5 + Math.random()))
      }
    }
    return this.#once(folder, args, call)
  }

  /** Those of the repository, its own included; also such whose folder is gone. */
  async worktrees(repo: string): Promise<Worktree[]> {
    const output = await this.run(repo, ['worktree', 'list', '--porcelain'])
    return output.split('\n\n').flatMap((block, index) => {
      const lines = block.split('\n')
      const of = (key: string) => lines.find((line) => line.startsWith(`${key} `))?.slice(key.length + 1)
      const path = of('worktree')
      return path === undefined ? [] : [{ path, branch: of('branch'), commit: of('HEAD'), main: index === 0 }]
    })
  }

  async #once(folder: string, args: readonly string[], { signal, input }: GitCall): Promise<string> {
    const command = args[0] ?? ''
    throwIfStopped(folder, signal)
    const env = await this.#envFor(folder)
    const child = spawn('git', [...SETTINGS.flatMap((setting) => ['-c', setting]), '-C', folder, ...args], {
      cwd: '/',
      // Of its own group: it is stopped with its children, and not by a Ctrl+C that is meant for us.
      detached: true,
      env,
      stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    })
    let late = false
    const limit = setTimeout(() => {
      late = true
      stop(child)
    }, this.#limitMs)
    const onAbort = () => stop(child)
    signal?.addEventListener('abort', onAbort)
    try {
      const { code, stdout, stderr } = await outcomeOf(child, input)
      if (code === 0) return stdout
      throwIfStopped(folder, signal)
      if (late) throw new LaunchError(`${folder}: git ${command}: it took longer than ${this.#limitMs} ms`)
      throw new GitError(folder, command, child.signalCode === null ? stderr : `fatal: ended by ${child.signalCode}`)
    } finally {
      clearTimeout(limit)
      signal?.removeEventListener('abort', onAbort)
    }
  }

  async #envFor(folder: string): Promise<NodeJS.ProcessEnv> {
    const own = Object.entries(this.#env).filter(([name]) => !name.startsWith('GIT_') || KEPT.test(name))
    return {
      ...Object.fromEntries(own),
      LC_ALL: 'C',
      GIT_TERMINAL_PROMPT: '0',
      GIT_OPTIONAL_LOCKS: '0',
      // Without it, git would take the repository that a plain folder happens to lie in. git compares real paths.
      GIT_CEILING_DIRECTORIES: dirname(await realpath(folder).catch(() => folder)),
    }
  }
}

export function throwIfStopped(thing: string, signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new LaunchError(`${thing}: stopped before it was ready`, { cause: signal.reason })
}

/** git and all that it started: TERM, so that it takes its locks with it, then KILL. */
function stop(child: ChildProcess): void {
  const { pid } = child
  if (pid === undefined) return
  const send = (signal: NodeJS.Signals) => {
    try {
      process.kill(-pid, signal)
    } catch {
      // It has ended by itself.
    }
  }
  send('SIGTERM')
  const kill = setTimeout(() => send('SIGKILL'), TERM_MS)
  child.once('exit', () => {
    clearTimeout(kill)
    send('SIGKILL')
  })
}

interface Outcome {
  /** null when a signal ended it. */
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

function outcomeOf(child: ChildProcess, input: string | undefined): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const stdout: Buffer[] = []
    let stderr = ''
    child.stdout?.on('data', (chunk: Buffer) => stdout.push(chunk))
    child.stderr?.on('data', (chunk: Buffer) => {
      if (stderr.length < STDERR_LIMIT) stderr += chunk.toString()
    })
    const settle = () => {
      child.stdout?.destroy()
      child.stderr?.destroy()
      resolve({ code: child.exitCode, stdout: Buffer.concat(stdout).toString(), stderr })
    }
    child.once('error', (error: NodeJS.ErrnoException) => reject(notStarted(error)))
    child.once('close', settle)
    child.once('exit', () => setTimeout(settle, OUTPUT_MS).unref())
    // It may end before it has read all: its exit code says why.
    child.stdin?.on('error', () => {})
    child.stdin?.end(input)
  })
}

function notStarted(error: NodeJS.ErrnoException): LaunchError {
  if (error.code === 'ENOENT') return new LaunchError('git: not found on PATH; install git', { permanent: true, cause: error })
  return new LaunchError(`git: it cannot be started (${error.message})`, { cause: error })
}
