/**
 * The workspaces of sessions: a fresh folder, or a worktree on a branch of the job's own. An earlier launch may have ended
 * anywhere, so nothing is taken for granted: a folder, a registration, a branch or a lock that it left is dealt with, and
 * commits are never lost. A branch that has commits of its own is gone on with; one that has none starts anew.
 *
 * What a branch started from is remembered in the repository (`refs/unstuck-base/BRANCH`), because the base may move on and
 * sessions of one job lie in different folders. It is written and deleted in one step with the branch.
 *
 * Nothing is ever pruned: what is missing here may lie on a disk that is not mounted, or on another host.
 */
import { mkdir, realpath, stat } from 'node:fs/promises'
import { basename, dirname, resolve } from 'node:path'
import { messageOf } from '../kernel/errors.js'
import { UndoStack } from '../kernel/undo-stack.js'
import { Git, GitError, type GitOptions, throwIfStopped, type Worktree } from './git-command.js'
import { bytesLeft, isThere, realOf, removeEmpty, removeTree } from './node-folders.js'
import { LaunchError, type WorkspaceEnd, type WorkspacePlan, type Workspaces } from './session.js'

/** With less than this free a disk counts as full. */
const LITTLE_BYTES = 1_048_576

type GitPlan = NonNullable<WorkspacePlan['git']>

/** The repository's names of a job's branch, and of what it started from. */
interface Refs {
  readonly head: string
  readonly start: string
}

export class GitWorkspaces implements Workspaces {
  readonly #git: Git
  /** The last work on each repository: git's own locks do not wait. */
  readonly #turns = new Map<string, Promise<unknown>>()

  constructor(options: GitOptions = {}) {
    this.#git = new Git(options)
  }

  async make(plan: WorkspacePlan, signal: AbortSignal): Promise<void> {
    const undo = new UndoStack()
    try {
      throwIfStopped(plan.path, signal)
      await makeParent(plan.path, undo)
      if (plan.git) await this.#makeWorktree(plan.path, plan.git, signal, undo)
      else await mkdir(plan.path, { mode: 0o700 })
      throwIfStopped(plan.path, signal)
    } catch (error) {
      const refusal = await asLaunchError(plan, error)
      const left: string[] = []
      await undo.unwind((step, reason) => left.push(`; its ${step} is left there: ${messageOf(reason)}`))
      throw withMore(refusal, left.join(''))
    }
  }

  async end(plan: WorkspacePlan, { keep = false }: { readonly keep?: boolean } = {}): Promise<WorkspaceEnd> {
    if (!keep) await removeTree(plan.path)
    const { git } = plan
    if (!git) return {}
    const shared = await this.#open(git.repo).catch((error: unknown) => {
      if (error instanceof NoRepository) return undefined
      throw error
    })
    if (shared === undefined) return {}
    return this.#inTurn(shared, () => this.#endWorktree(plan.path, git, keep))
  }

  async #makeWorktree(path: string, plan: GitPlan, signal: AbortSignal, undo: UndoStack): Promise<void> {
    const shared = await this.#open(plan.repo, signal)
    const refs = await this.#refsOf(plan)
    const inTurn = <T>(work: () => Promise<T>) => this.#inTurn(shared, work)
    await inTurn(async () => {
      throwIfStopped(path, signal)
      await this.#unregister(path, plan.repo)
      const start = await this.#startOf(plan)
      await this.#freeBranch(path, plan, refs)
      if (await this.#startBranch(plan, refs, start)) {
        undo.push('branch', () => inTurn(() => this.#dropBranch(plan, refs, start)))
      }
      undo.push('worktree', async () => {
        await removeTree(path)
        await inTurn(() => this.#unregister(path, plan.repo))
      })
      // Forced: a stale registration elsewhere, or a rebase that never ended, would hold the branch.
      const add = ['worktree', 'add', '--quiet', '--force', '--force', '--no-checkout', '--', path, plan.branch]
      await this.#git.run(plan.repo, add, { signal })
    })
    // The long part: no other launch waits for it.
    await this.#git.run(path, ['reset', '--quiet', '--hard'], { signal })
  }

  async #endWorktree(path: string, plan: GitPlan, keep: boolean): Promise<WorkspaceEnd> {
    if (!keep) await this.#unregister(path, plan.repo)
    const refs = await this.#refsOf(plan)
    const { head, start } = await this.#read(plan, refs)
    if (head === undefined) {
      if (start !== undefined) await this.#update(plan, refs, [`delete ${refs.start}`])
      return {}
    }
    // A base that is gone takes nothing away: rather a branch too many than a commit lost.
    const base = await this.#commitOf(plan.repo, plan.base ?? start ?? 'HEAD').catch(() => undefined)
    const commits = await this.#ownCommits(plan, head, [start, base])
    if (commits > 0) return { branch: plan.branch, commits }
    const users = await this.#users(plan, refs)
    if (!keep && users.length === 0) await this.#dropBranch(plan, refs, head)
    return {}
  }

  /** @returns what all worktrees of the repository have in common, by which its turns are taken */
  async #open(repo: string, signal?: AbortSignal): Promise<string> {
    const found = await stat(repo).catch((error: NodeJS.ErrnoException) => error)
    if (found instanceof Error) throw unusable(repo, found)
    if (!found.isDirectory()) throw new NoRepository(`${repo}: no folder; name a git repository`)
    try {
      const output = await this.#git.run(repo, ['rev-parse', '--git-common-dir'], { signal })
      return await realpath(resolve(repo, output.replace(/\n$/, '')))
    } catch (error) {
      throw error instanceof GitError && error.noRepository ? new NoRepository(error.message, { cause: error }) : error
    }
  }

  /** One after another on one repository. */
  #inTurn<T>(shared: string, work: () => Promise<T>): Promise<T> {
    const turn = (this.#turns.get(shared) ?? Promise.resolve()).then(work)
    const over = turn
      .catch(() => {})
      .then(() => {
        if (this.#turns.get(shared) === over) this.#turns.delete(shared)
      })
    this.#turns.set(shared, over)
    return turn
  }

  async #refsOf({ repo, branch }: GitPlan): Promise<Refs> {
    const head = `refs/heads/${branch}`
    await this.#git.run(repo, ['check-ref-format', head]).catch((error: unknown) => {
      if (!(error instanceof GitError)) throw error
      throw new LaunchError(`${JSON.stringify(branch)}: no name for a branch; rename the queue or the job`, {
        permanent: true,
        cause: error,
      })
    })
    return { head, start: `refs/unstuck-base/${branch}` }
  }

  /** The commit that a new branch starts from. */
  async #startOf({ repo, base }: GitPlan): Promise<string> {
    const commit = await this.#commitOf(repo, base ?? 'HEAD')
    if (commit !== undefined) return commit
    const message =
      base === undefined
        ? `${repo}: what it has checked out has no commit yet; make one, or set workspace.base`
        : `${repo}: there is no ${JSON.stringify(base)} to start from; create it, or change workspace.base`
    throw new LaunchError(message, { permanent: true })
  }

  async #commitOf(repo: string, name: string): Promise<string | undefined> {
    if (name.startsWith('-') || name.includes('\0')) return undefined
    try {
      const args = ['rev-parse', '--quiet', '--verify', '--end-of-options', `${name}^{commit}`]
      return (await this.#git.run(repo, args)).trim()
    } catch (error) {
      if (error instanceof GitError && error.silent) return undefined
      throw error
    }
  }

  async #read({ repo }: GitPlan, refs: Refs): Promise<{ readonly [name in keyof Refs]: string | undefined }> {
    const format = '--format=%(objectname) %(refname)'
    const lines = (await this.#git.run(repo, ['for-each-ref', format, '--', refs.head, refs.start])).split('\n')
    const of = (ref: string) => lines.find((line) => line.endsWith(` ${ref}`))?.split(' ')[0]
    return { head: of(refs.head), start: of(refs.start) }
  }

  async #ownCommits({ repo }: GitPlan, head: string, without: readonly (string | undefined)[]): Promise<number> {
    const known = without.filter((commit) => commit !== undefined)
    return Number(await this.#git.run(repo, ['rev-list', '--count', head, '--not', ...known, '--']))
  }

  /** @returns whether the branch is new */
  async #startBranch(plan: GitPlan, refs: Refs, start: string): Promise<boolean> {
    const found = await this.#read(plan, refs)
    const remember = `update ${refs.start} ${start}`
    const goesOn = found.head !== undefined && (await this.#ownCommits(plan, found.head, [found.start, start])) > 0
    if (!goesOn) await this.#update(plan, refs, [`update ${refs.head} ${start}`, remember])
    else if (found.start === undefined) await this.#update(plan, refs, [remember])
    return found.head === undefined
  }

  /** Only where it was seen to have nothing of its own: somebody may have come between. */
  async #dropBranch(plan: GitPlan, refs: Refs, at: string): Promise<void> {
    const { head } = await this.#read(plan, refs)
    if (head === at) await this.#update(plan, refs, [`delete ${refs.head} ${at}`, `delete ${refs.start}`])
  }

  /** All of it or nothing. A lock on these names that does not go away is of a git that was killed: they are the job's own. */
  async #update({ repo }: GitPlan, refs: Refs, changes: readonly string[]): Promise<void> {
    const input = changes.map((change) => `${change}\n`).join('')
    for (const locks = new Set(Object.values(refs).map((ref) => `/${ref}.lock`)); ; ) {
      try {
        await this.#git.run(repo, ['update-ref', '--stdin'], { input })
        return
      } catch (error) {
        const path = error instanceof GitError ? error.lock : undefined
        const own = [...locks].find((lock) => path?.endsWith(lock))
        if (path === undefined || own === undefined) throw error
        await removeTree(path)
        locks.delete(own)
      }
    }
  }

  /** An earlier session's worktree, kept or left, gives the branch up; its files and its commit stay as they are. */
  async #freeBranch(path: string, plan: GitPlan, refs: Refs): Promise<void> {
    for (const user of await this.#users(plan, refs)) {
      if (user.main || basename(user.path) !== basename(path) || user.commit === undefined) {
        throw new LaunchError(`${plan.repo}: ${plan.branch} is checked out in ${user.path}; switch to another branch there`)
      }
      const detach = ['update-ref', '--no-deref', '-m', 'unstuck: a later session has the branch', 'HEAD', user.commit]
      await this.#git.run(user.path, detach).catch(() => {
        // Broken, then: it cannot use the branch either.
      })
    }
  }

  /** Worktrees that have the branch checked out, and whose folder exists. */
  async #users({ repo }: GitPlan, refs: Refs): Promise<Worktree[]> {
    const users = (await this.#git.worktrees(repo)).filter(({ branch }) => branch === refs.head)
    const exist = await Promise.all(users.map(({ path }) => isThere(path)))
    return users.filter((_, index) => exist[index])
  }

  /** Takes a worktree whose folder is gone off the list, locked or not. */
  async #unregister(path: string, repo: string): Promise<void> {
    const real = await realOf(path)
    if (!(await this.#git.worktrees(repo)).some((tree) => tree.path === real)) return
    // git finds it by its path, and so wants the folder above it.
    const made = await mkdir(dirname(real), { recursive: true, mode: 0o700 })
    await this.#git.run(repo, ['worktree', 'remove', '--force', '--force', '--', real])
    if (made !== undefined) await removeEmpty(dirname(real), made)
  }
}

/** There is none, or it is gone. */
class NoRepository extends LaunchError {
  constructor(message: string, options?: ErrorOptions) {
    super(message, { ...options, permanent: true })
  }
}

function unusable(repo: string, error: NodeJS.ErrnoException): LaunchError {
  if (error.code === 'ENOENT' || error.code === 'ENOTDIR') {
    return new NoRepository(`${repo}: no such folder; name a git repository`, { cause: error })
  }
  const permanent = error.code === 'EACCES'
  return new LaunchError(`${repo}: cannot be read (${error.message}); name a git repository`, { permanent, cause: error })
}

/** The folder above the workspace; what lay in the workspace's place goes. */
async function makeParent(path: string, undo: UndoStack): Promise<void> {
  const parent = dirname(path)
  const made = await mkdir(parent, { recursive: true, mode: 0o700 })
  // Folders above it are shared with other sessions.
  if (made !== undefined) undo.push('folder', () => removeEmpty(parent, parent))
  await removeTree(path)
  undo.push('workspace', () => removeTree(path))
}

async function asLaunchError(plan: WorkspacePlan, error: unknown): Promise<LaunchError> {
  const reason = `${plan.path}: cannot be made (${messageOf(error)}); see to the folder of sessions, supervisor.runtimeDir`
  const refusal = error instanceof LaunchError ? error : new LaunchError(reason, { cause: error })
  return refusal.permanent ? refusal : withMore(refusal, await littleRoom(plan))
}

function withMore(error: LaunchError, more: string): LaunchError {
  return more === ''
    ? error
    : new LaunchError(error.message + more, { permanent: error.permanent, cause: error.cause ?? error })
}

/** git often does not say why it could not write. */
async function littleRoom({ path, git }: WorkspacePlan): Promise<string> {
  for (const folder of [dirname(path), ...(git ? [git.repo] : [])]) {
    const left = await bytesLeft(folder)
    if (left !== undefined && left < LITTLE_BYTES) return `; the disk of ${folder} has no space left to speak of: free some`
  }
  return ''
}
