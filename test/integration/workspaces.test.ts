/** Workspaces of sessions, on real folders and real repositories of many shapes. */
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  watch,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import type { GitOptions } from '../../src/launch/git-command.js'
import { GitWorkspaces } from '../../src/launch/git-worktree.js'
import { LaunchError, type WorkspacePlan } from '../../src/launch/session.js'
import { until } from '../support/processes.js'

const BRANCH = 'unstuck/agents/j1'
const never = () => new AbortController().signal
const isRoot = process.getuid?.() === 0

/** Nothing of this machine's own git settings, and a name for commits. */
const gitEnv = {
  ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('GIT_'))),
  GIT_CONFIG_GLOBAL: '/dev/null',
  GIT_CONFIG_SYSTEM: '/dev/null',
  GIT_AUTHOR_NAME: 'A',
  GIT_AUTHOR_EMAIL: 'a@example.org',
  GIT_COMMITTER_NAME: 'A',
  GIT_COMMITTER_EMAIL: 'a@example.org',
  GIT_ALLOW_PROTOCOL: 'file',
}

function git(folder: string, ...args: string[]): string {
  return execFileSync('git', ['-C', folder, ...args], {
    env: gitEnv,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  }).trim()
}

function commit(folder: string, name: string): string {
  writeFileSync(join(folder, name), `${name}\n`)
  git(folder, 'add', '-A')
  git(folder, 'commit', '-q', '-m', name)
  return git(folder, 'rev-parse', 'HEAD')
}

function makeRepo(path: string): string {
  mkdirSync(path, { recursive: true })
  git(path, 'init', '-q', '-b', 'main')
  commit(path, 'first')
  return path
}

function setup(options: GitOptions = {}) {
  const root = realpathSync(mkdtempSync(join(tmpdir(), 'unstuck-workspaces-')))
  onTestFinished(() => rmSync(root, { recursive: true, force: true }))
  const repo = join(root, 'repo')
  const workspaces = new GitWorkspaces({ env: gitEnv, ...options })
  const pathOf = (fence: number, job = 'j1') => join(root, 'run', 'sessions', 'agents', `${job}-${fence}`, 'workspace')
  return {
    root,
    repo,
    workspaces,
    pathOf,
    folderPlan: { path: pathOf(1) },
    planOf: (at: { repo?: string; base?: string; fence?: number; branch?: string } = {}): WorkspacePlan => ({
      path: pathOf(at.fence ?? 1),
      git: { repo: at.repo ?? repo, branch: at.branch ?? BRANCH, ...(at.base === undefined ? {} : { base: at.base }) },
    }),
    make: (plan: WorkspacePlan, signal = never()) => workspaces.make(plan, signal),
  }
}

/** What a repository knows of us. */
function tracesIn(repo: string): { branches: string[]; worktrees: number } {
  const refs = git(repo, 'for-each-ref', '--format=%(refname)', 'refs/heads/unstuck', 'refs/unstuck-base')
  const worktrees = git(repo, 'worktree', 'list', '--porcelain')
    .split('\n')
    .filter((line) => line.startsWith('worktree '))
  return { branches: refs === '' ? [] : refs.split('\n'), worktrees: worktrees.length - 1 }
}

const NOTHING = { branches: [], worktrees: 0 }

async function refusalOf(work: Promise<unknown>): Promise<LaunchError> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  if (!(error instanceof LaunchError)) throw new Error('it was not refused with a LaunchError', { cause: error })
  expect(error.message).not.toContain('\n')
  return error
}

/** Where git keeps what it knows of a worktree. */
const adminOf = (worktree: string) => git(worktree, 'rev-parse', '--absolute-git-dir')

const moduleAt = (name: string) => new URL(`../../src/launch/${name}.ts`, import.meta.url).href

/** Runs a script as a user to whom permissions matter. @returns what it printed */
function asNobody(root: string, script: string, ...args: string[]): string {
  const nobody = 65534
  chownSync(root, nobody, nobody)
  const options = [
    '--import',
    'tsx',
    '--input-type=module',
    '-e',
    `process.setgid(${nobody}); process.setuid(${nobody});${script}`,
  ]
  return execFileSync(process.execPath, [...options, '--', ...args], { env: gitEnv, encoding: 'utf8' }).trim()
}

/** Leaves a worktree as a crash does: registered, and its folder gone. */
function dropFolder(path: string): void {
  rmSync(dirname(path), { recursive: true })
}

describe('a workspace without git', () => {
  it('is a fresh folder that only its owner reads, and goes at the end', async () => {
    const { workspaces, folderPlan, make } = setup()
    await make(folderPlan)
    expect(readdirSync(folderPlan.path)).toEqual([])
    expect(statSync(dirname(folderPlan.path)).mode & 0o777).toBe(0o700)
    expect(await workspaces.end(folderPlan)).toEqual({})
    expect(existsSync(folderPlan.path)).toBe(false)
  })

  it.each(['empty', 'full', 'a file', 'a link'])('D7: replaces what was left in its place (%s)', async (kind) => {
    const { root, folderPlan, make } = setup()
    mkdirSync(dirname(folderPlan.path), { recursive: true })
    const elsewhere = join(root, 'elsewhere')
    mkdirSync(elsewhere)
    writeFileSync(join(elsewhere, 'mine'), '')
    if (kind === 'a link') symlinkSync(elsewhere, folderPlan.path)
    else if (kind === 'a file') writeFileSync(folderPlan.path, 'old')
    else mkdirSync(folderPlan.path)
    if (kind === 'full') writeFileSync(join(folderPlan.path, 'old'), '')
    await make(folderPlan)
    expect(statSync(folderPlan.path).isDirectory()).toBe(true)
    expect(readdirSync(folderPlan.path)).toEqual([])
    expect(readdirSync(elsewhere)).toEqual(['mine'])
  })

  it('stays when it is to be kept, and may be ended again or without ever having been made', async () => {
    const { workspaces, folderPlan, make } = setup()
    expect(await workspaces.end(folderPlan)).toEqual({})
    await make(folderPlan)
    writeFileSync(join(folderPlan.path, 'result'), '')
    expect(await workspaces.end(folderPlan, { keep: true })).toEqual({})
    expect(readdirSync(folderPlan.path)).toEqual(['result'])
    await workspaces.end(folderPlan)
    await workspaces.end(folderPlan)
    expect(existsSync(folderPlan.path)).toBe(false)
  })

  it('D2: is refused where no folder can be, and may be tried again', async () => {
    const { root, workspaces } = setup()
    writeFileSync(join(root, 'file'), '')
    const refusal = await refusalOf(workspaces.make({ path: join(root, 'file', 'j1-1', 'workspace') }, never()))
    expect(refusal.permanent).toBe(false)
    expect(refusal.message).toContain(join(root, 'file', 'j1-1', 'workspace'))
  })

  it('D2: is not made once it is not wanted any more', async () => {
    const { folderPlan, make } = setup()
    const refusal = await refusalOf(make(folderPlan, AbortSignal.abort()))
    expect(refusal.permanent).toBe(false)
    expect(existsSync(dirname(folderPlan.path))).toBe(false)
  })

  it.runIf(isRoot)('goes although it holds folders that may not be written', () => {
    const { root, folderPlan } = setup()
    const script = `
      import { mkdirSync, writeFileSync, chmodSync, existsSync } from 'node:fs'
      const [folders, path] = process.argv.slice(1)
      const { removeTree } = await import(folders)
      mkdirSync(path + '/cache/inner', { recursive: true }); writeFileSync(path + '/cache/inner/file', '')
      chmodSync(path + '/cache/inner', 0o555); chmodSync(path + '/cache', 0o555)
      await removeTree(path)
      console.log(existsSync(path))`
    expect(asNobody(root, script, moduleAt('node-folders'), folderPlan.path)).toBe('false')
  })
})

describe('a worktree', () => {
  it('stands on a branch of the job that starts from what the repository has checked out', async () => {
    const { repo, planOf, make, workspaces } = setup()
    makeRepo(repo)
    const plan = planOf()
    await make(plan)
    expect(git(plan.path, 'symbolic-ref', 'HEAD')).toBe(`refs/heads/${BRANCH}`)
    expect(git(plan.path, 'rev-parse', 'HEAD')).toBe(git(repo, 'rev-parse', 'main'))
    expect(git(plan.path, 'status', '--porcelain')).toBe('')
    expect(readFileSync(join(plan.path, 'first'), 'utf8')).toBe('first\n')
    expect(statSync(dirname(plan.path)).mode & 0o777).toBe(0o700)
    expect(await workspaces.end(plan)).toEqual({})
    expect(existsSync(plan.path)).toBe(false)
    expect(tracesIn(repo)).toEqual(NOTHING)
  })

  it('starts from the base that is named', async () => {
    const { repo, planOf, make, workspaces } = setup()
    makeRepo(repo)
    git(repo, 'branch', 'release')
    commit(repo, 'second')
    const plan = planOf({ base: 'release' })
    await make(plan)
    expect(readdirSync(plan.path).sort()).toEqual(['.git', 'first'])
    commit(plan.path, 'own')
    expect(await workspaces.end(plan)).toEqual({ branch: BRANCH, commits: 1 })
  })

  it('goes at the end, with what was not committed; its commits stay and are counted', async () => {
    const { repo, planOf, make, workspaces } = setup()
    makeRepo(repo)
    const plan = planOf()
    await make(plan)
    commit(plan.path, 'one')
    const last = commit(plan.path, 'two')
    writeFileSync(join(plan.path, 'first'), 'changed')
    writeFileSync(join(plan.path, 'loose'), '')
    // Commits that came to the base meanwhile are not its own.
    commit(repo, 'elsewhere')
    expect(await workspaces.end(plan)).toEqual({ branch: BRANCH, commits: 2 })
    expect(existsSync(plan.path)).toBe(false)
    expect(git(repo, 'rev-parse', BRANCH)).toBe(last)
    expect(tracesIn(repo).worktrees).toBe(0)
    expect(await workspaces.end(plan)).toEqual({ branch: BRANCH, commits: 2 })
  })

  it('counts no commit of the base that was merged into the branch', async () => {
    const { repo, planOf, make, workspaces } = setup()
    makeRepo(repo)
    const plan = planOf({ base: 'main' })
    await make(plan)
    commit(plan.path, 'own')
    commit(repo, 'elsewhere')
    git(plan.path, 'merge', '-q', '-m', 'merge', 'main')
    expect(await workspaces.end(plan)).toEqual({ branch: BRANCH, commits: 2 })
  })

  it('leaves no branch behind when the repository went on to older or newer commits meanwhile', async () => {
    const { repo, planOf, make, workspaces } = setup()
    makeRepo(repo)
    commit(repo, 'second')
    const plan = planOf()
    await make(plan)
    git(repo, 'checkout', '-q', '--detach', 'main~1')
    expect(await workspaces.end(plan)).toEqual({})
    expect(tracesIn(repo)).toEqual(NOTHING)
  })

  it('stays when it is to be kept, and tells its commits', async () => {
    const { repo, planOf, make, workspaces } = setup()
    makeRepo(repo)
    const plan = planOf()
    await make(plan)
    expect(await workspaces.end(plan, { keep: true })).toEqual({})
    expect(git(plan.path, 'symbolic-ref', '--short', 'HEAD')).toBe(BRANCH)
    commit(plan.path, 'own')
    writeFileSync(join(plan.path, 'loose'), '')
    expect(await workspaces.end(plan, { keep: true })).toEqual({ branch: BRANCH, commits: 1 })
    expect(existsSync(join(plan.path, 'loose'))).toBe(true)
  })

  it('is judged by its own branch, also when the job switched to another or to none', async () => {
    const { repo, planOf, make, workspaces } = setup()
    makeRepo(repo)
    const plan = planOf()
    await make(plan)
    commit(plan.path, 'own')
    git(plan.path, 'checkout', '-q', '-b', 'other')
    commit(plan.path, 'on-other')
    git(plan.path, 'checkout', '-q', '--detach')
    expect(await workspaces.end(plan)).toEqual({ branch: BRANCH, commits: 1 })
    expect(git(repo, 'rev-list', '--count', 'main..other')).toBe('2')
  })

  it('ends also when the job deleted its branch, or the folder, or what makes it a worktree', async () => {
    const { repo, planOf, make, workspaces } = setup()
    makeRepo(repo)
    const plan = planOf()
    await make(plan)
    git(plan.path, 'checkout', '-q', '--detach')
    git(plan.path, 'branch', '-q', '-D', BRANCH)
    rmSync(join(plan.path, '.git'))
    expect(await workspaces.end(plan)).toEqual({})
    expect(tracesIn(repo)).toEqual(NOTHING)
    await make(plan)
    dropFolder(plan.path)
    expect(await workspaces.end(plan)).toEqual({})
    expect(tracesIn(repo)).toEqual(NOTHING)
    expect(existsSync(dirname(plan.path))).toBe(false)
  })

  it('ends without ever having been made, and twice', async () => {
    const { repo, planOf, make, workspaces } = setup()
    makeRepo(repo)
    const plan = planOf()
    expect(await workspaces.end(plan)).toEqual({})
    await make(plan)
    await workspaces.end(plan)
    expect(await workspaces.end(plan)).toEqual({})
    expect(await workspaces.end(plan, { keep: true })).toEqual({})
    expect(tracesIn(repo)).toEqual(NOTHING)
  })

  it.each(['gone', 'emptied'])('ends when its repository is %s', async (how) => {
    const { repo, planOf, make, workspaces } = setup()
    makeRepo(repo)
    const plan = planOf()
    await make(plan)
    rmSync(repo, { recursive: true })
    if (how === 'emptied') mkdirSync(repo)
    expect(await workspaces.end(plan)).toEqual({})
    expect(existsSync(plan.path)).toBe(false)
  })

  it('does not take the branch from a later session when an earlier one is ended late', async () => {
    const { repo, planOf, make, workspaces } = setup()
    makeRepo(repo)
    await make(planOf({ fence: 1 }))
    await make(planOf({ fence: 2 }))
    expect(await workspaces.end(planOf({ fence: 1 }))).toEqual({})
    commit(planOf({ fence: 2 }).path, 'own')
    expect(await workspaces.end(planOf({ fence: 2 }))).toEqual({ branch: BRANCH, commits: 1 })
  })

  it('runs no hook of the repository, and minds no variable of git around it', async () => {
    const outer = setup()
    makeRepo(outer.repo)
    const { repo, planOf, make, workspaces, root } = setup({
      env: { ...gitEnv, GIT_DIR: join(outer.repo, '.git'), GIT_WORK_TREE: outer.repo, GIT_INDEX_FILE: '/nowhere/index' },
    })
    makeRepo(repo)
    const ran = join(root, 'ran')
    for (const hook of ['post-checkout', 'reference-transaction', 'post-index-change']) {
      writeFileSync(join(repo, '.git', 'hooks', hook), `#!/bin/sh\necho ${hook} >> '${ran}'\n`, { mode: 0o755 })
    }
    git(repo, 'config', 'core.fsmonitor', join(repo, '.git', 'hooks', 'post-checkout'))
    const plan = planOf()
    await make(plan)
    await workspaces.end(plan)
    expect(existsSync(ran)).toBe(false)
    git(repo, 'checkout', '-q', '-b', 'other')
    expect(readFileSync(ran, 'utf8')).toContain('post-checkout')
    expect(tracesIn(outer.repo)).toEqual(NOTHING)
  })

  it('20 made at once on one repository all stand, and all go', async () => {
    const { repo, workspaces, pathOf } = setup()
    makeRepo(repo)
    const plans = Array.from({ length: 20 }, (_, index) => ({
      path: pathOf(1, `j${index}`),
      git: { repo, branch: `unstuck/agents/j${index}` },
    }))
    await Promise.all(plans.map((plan) => workspaces.make(plan, never())))
    expect(tracesIn(repo).worktrees).toBe(20)
    for (const plan of plans) expect(git(plan.path, 'symbolic-ref', '--short', 'HEAD')).toBe(plan.git.branch)
    await Promise.all(plans.map((plan) => workspaces.end(plan)))
    expect(tracesIn(repo)).toEqual(NOTHING)
  })

  it('is made beside those of another supervisor', async () => {
    const { repo, pathOf, workspaces } = setup()
    makeRepo(repo)
    const other = new GitWorkspaces({ env: gitEnv })
    const plans = Array.from({ length: 12 }, (_, index) => ({
      path: pathOf(1, `j${index}`),
      git: { repo, branch: `unstuck/agents/j${index}` },
    }))
    const all = async (work: (one: GitWorkspaces, plan: WorkspacePlan) => Promise<unknown>) =>
      Promise.all(plans.map((plan, index) => work(index % 2 ? other : workspaces, plan)))
    await all((one, plan) => one.make(plan, never()))
    expect(tracesIn(repo).worktrees).toBe(12)
    await all((one, plan) => one.end(plan))
    expect(tracesIn(repo)).toEqual(NOTHING)
  })
})

describe('what an earlier launch left', () => {
  it('D7: a branch with commits of its own is gone on with', async () => {
    const { repo, planOf, make, workspaces } = setup()
    makeRepo(repo)
    await make(planOf())
    const own = commit(planOf().path, 'own')
    await workspaces.end(planOf())
    commit(repo, 'elsewhere')
    const next = planOf({ fence: 2 })
    await make(next)
    expect(git(next.path, 'rev-parse', 'HEAD')).toBe(own)
    commit(next.path, 'more')
    expect(await workspaces.end(next)).toEqual({ branch: BRANCH, commits: 2 })
  })

  it('D7: a branch with commits that somebody else made by hand is gone on with', async () => {
    const { repo, planOf, make, workspaces } = setup()
    makeRepo(repo)
    git(repo, 'checkout', '-q', '-b', BRANCH)
    const own = commit(repo, 'own')
    git(repo, 'checkout', '-q', 'main')
    const plan = planOf()
    await make(plan)
    expect(git(plan.path, 'rev-parse', 'HEAD')).toBe(own)
    expect(await workspaces.end(plan)).toEqual({ branch: BRANCH, commits: 1 })
  })

  it('D7: a branch without commits of its own starts anew from the base', async () => {
    const { repo, planOf, make } = setup()
    makeRepo(repo)
    git(repo, 'branch', BRANCH)
    const base = commit(repo, 'second')
    await make(planOf())
    expect(git(planOf().path, 'rev-parse', 'HEAD')).toBe(base)
  })

  it.each(['empty', 'with files'])('D7: a folder (%s) makes room', async (kind) => {
    const { repo, planOf, make } = setup()
    makeRepo(repo)
    const plan = planOf()
    mkdirSync(plan.path, { recursive: true })
    if (kind === 'with files') writeFileSync(join(plan.path, 'old'), '')
    await make(plan)
    expect(readdirSync(plan.path).sort()).toEqual(['.git', 'first'])
  })

  it.each(['stale', 'locked and stale', 'locked'])('D7: a registration (%s) of the same place is replaced', async (kind) => {
    const { repo, planOf, make, workspaces } = setup()
    makeRepo(repo)
    const plan = planOf()
    await make(plan)
    if (kind.startsWith('locked')) git(repo, 'worktree', 'lock', '--reason', 'initializing', plan.path)
    if (kind.endsWith('stale')) dropFolder(plan.path)
    await make(plan)
    expect(git(plan.path, 'status', '--porcelain')).toBe('')
    expect(tracesIn(repo).worktrees).toBe(1)
    git(repo, 'worktree', 'lock', plan.path)
    await workspaces.end(plan)
    expect(tracesIn(repo)).toEqual(NOTHING)
  })

  it('D7: a stale registration elsewhere holds the branch no longer', async () => {
    const { repo, planOf, make } = setup()
    makeRepo(repo)
    await make(planOf({ fence: 1 }))
    const own = commit(planOf().path, 'own')
    dropFolder(planOf({ fence: 1 }).path)
    await make(planOf({ fence: 2 }))
    expect(git(planOf({ fence: 2 }).path, 'rev-parse', 'HEAD')).toBe(own)
  })

  it('D7: another worktree of the job gives the branch up, and keeps its files', async () => {
    const { repo, planOf, make } = setup()
    makeRepo(repo)
    const kept = planOf({ fence: 1 })
    await make(kept)
    const own = commit(kept.path, 'own')
    writeFileSync(join(kept.path, 'loose'), 'loose')
    // As a git that was killed leaves it, in the middle of a rebase at that.
    writeFileSync(join(adminOf(kept.path), 'index.lock'), '')
    mkdirSync(join(adminOf(kept.path), 'rebase-merge'))
    writeFileSync(join(adminOf(kept.path), 'rebase-merge', 'head-name'), `refs/heads/${BRANCH}\n`)
    const next = planOf({ fence: 2 })
    await make(next)
    expect(git(next.path, 'symbolic-ref', '--short', 'HEAD')).toBe(BRANCH)
    expect(git(kept.path, 'rev-parse', 'HEAD')).toBe(own)
    expect(() => git(kept.path, 'symbolic-ref', '-q', 'HEAD')).toThrow()
    expect(readFileSync(join(kept.path, 'loose'), 'utf8')).toBe('loose')
  })

  it('a branch that a person has checked out is left to them', async () => {
    const { repo, root, planOf, make, workspaces } = setup()
    makeRepo(repo)
    git(repo, 'checkout', '-q', '-b', BRANCH)
    const refusal = await refusalOf(make(planOf()))
    expect(refusal.message).toContain(`${BRANCH} is checked out in ${repo}`)
    expect(refusal.permanent).toBe(false)
    git(repo, 'checkout', '-q', 'main')
    const review = join(root, 'review')
    git(repo, 'worktree', 'add', '-q', review, BRANCH)
    expect((await refusalOf(make(planOf()))).message).toContain(review)
    expect(await workspaces.end(planOf())).toEqual({})
    expect(git(review, 'symbolic-ref', '--short', 'HEAD')).toBe(BRANCH)
  })

  it.each(['index.lock', 'HEAD.lock'])('D7: the %s of a git that was killed in the worktree', async (lock) => {
    const { repo, planOf, make, workspaces } = setup()
    makeRepo(repo)
    const plan = planOf()
    await make(plan)
    commit(plan.path, 'own')
    writeFileSync(join(adminOf(plan.path), lock), '')
    expect(await workspaces.end(plan, { keep: true })).toEqual({ branch: BRANCH, commits: 1 })
    await make(plan)
    writeFileSync(join(adminOf(plan.path), lock), '')
    expect(await workspaces.end(plan)).toEqual({ branch: BRANCH, commits: 1 })
    expect(tracesIn(repo).worktrees).toBe(0)
  })

  it("D7: the lock on the job's branch of a git that was killed", async () => {
    const { repo, planOf, make, workspaces } = setup()
    makeRepo(repo)
    const lock = join(repo, '.git', 'refs', 'heads', `${BRANCH}.lock`)
    mkdirSync(dirname(lock), { recursive: true })
    writeFileSync(lock, '')
    await make(planOf())
    writeFileSync(lock, '')
    writeFileSync(join(repo, '.git', 'refs', 'unstuck-base', `${BRANCH}.lock`), '')
    expect(await workspaces.end(planOf())).toEqual({})
    expect(tracesIn(repo)).toEqual(NOTHING)
  })

  it("another git's lock is waited for, and never removed", async () => {
    const { repo, planOf, make, workspaces } = setup()
    makeRepo(repo)
    git(repo, 'pack-refs', '--all')
    await make(planOf())
    git(repo, 'pack-refs', '--all')
    const lock = join(repo, '.git', 'packed-refs.lock')
    writeFileSync(lock, '')
    const refusal = await refusalOf(workspaces.end(planOf()))
    expect(refusal.message).toContain(lock)
    expect(refusal.permanent).toBe(false)
    expect(existsSync(lock)).toBe(true)
    rmSync(lock)
    expect(await workspaces.end(planOf())).toEqual({})
    expect(tracesIn(repo)).toEqual(NOTHING)
  })
})

it('a registration that another git has made by halves is waited for, then told with the fix', async () => {
  const { repo, planOf, make } = setup()
  makeRepo(repo)
  const half = join(repo, '.git', 'worktrees', 'half')
  mkdirSync(half, { recursive: true })
  writeFileSync(join(half, 'gitdir'), '/nowhere/.git\n')
  writeFileSync(join(half, 'HEAD'), `${git(repo, 'rev-parse', 'HEAD')}\n`)
  writeFileSync(join(half, 'commondir'), '')
  const refusal = await refusalOf(make(planOf()))
  expect(refusal.permanent).toBe(false)
  expect(refusal.message).toContain('remove its registration when no git runs')
  expect(refusal.message).toContain('worktrees/half')
  const made = make(planOf())
  writeFileSync(join(half, 'commondir'), '../..\n')
  await made
  expect(readdirSync(planOf().path).sort()).toEqual(['.git', 'first'])
})

describe('a repository', () => {
  it('without a commit is refused for good, and says what to do', async () => {
    const { repo, planOf, make, workspaces } = setup()
    mkdirSync(repo)
    git(repo, 'init', '-q', '-b', 'main')
    const refusal = await refusalOf(make(planOf()))
    expect(refusal.permanent).toBe(true)
    expect(refusal.message).toBe(`${repo}: what it has checked out has no commit yet; make one, or set workspace.base`)
    expect(existsSync(dirname(planOf().path))).toBe(false)
    expect(await workspaces.end(planOf())).toEqual({})
  })

  it('may be bare', async () => {
    const { root, repo, planOf, make, workspaces } = setup()
    makeRepo(repo)
    const bare = join(root, 'bare.git')
    git(root, 'clone', '-q', '--bare', repo, bare)
    await make(planOf({ repo: bare }))
    commit(planOf().path, 'own')
    expect(await workspaces.end(planOf({ repo: bare }))).toEqual({ branch: BRANCH, commits: 1 })
    expect(tracesIn(bare).worktrees).toBe(0)
  })

  it('may have its head detached', async () => {
    const { repo, planOf, make, workspaces } = setup()
    makeRepo(repo)
    commit(repo, 'second')
    git(repo, 'checkout', '-q', '--detach', 'main~1')
    await make(planOf())
    expect(git(planOf().path, 'rev-parse', 'HEAD')).toBe(git(repo, 'rev-parse', 'main~1'))
    commit(planOf().path, 'own')
    expect(await workspaces.end(planOf())).toEqual({ branch: BRANCH, commits: 1 })
  })

  it('may lie in a path with spaces and letters of all kinds', async () => {
    const { root, planOf, make, workspaces } = setup()
    const repo = makeRepo(join(root, 'a "repo" of  Zoë', '仓库 🙂'))
    const plan = { ...planOf({ repo }), path: join(root, 'run dir', "it's ü", 'j1-1', 'workspace') }
    await make(plan)
    await make(plan)
    expect(readdirSync(plan.path).sort()).toEqual(['.git', 'first'])
    await workspaces.end(plan)
    expect(tracesIn(repo)).toEqual(NOTHING)
  })

  it('may be reached, as the folder of sessions may, through a link', async () => {
    const { root, repo, planOf, make, workspaces } = setup()
    makeRepo(repo)
    symlinkSync(repo, join(root, 'link'))
    mkdirSync(join(root, 'real-run'))
    symlinkSync(join(root, 'real-run'), join(root, 'run'))
    const plan = planOf({ repo: join(root, 'link') })
    await make(plan)
    await make(plan)
    expect(tracesIn(repo).worktrees).toBe(1)
    await workspaces.end(plan)
    expect(tracesIn(repo)).toEqual(NOTHING)
  })

  it('may have submodules: they stay empty, and the worktree goes all the same', async () => {
    const { root, repo, planOf, make, workspaces } = setup()
    const part = makeRepo(join(root, 'part'))
    makeRepo(repo)
    git(repo, 'submodule', '--quiet', 'add', part, 'part')
    git(repo, 'commit', '-q', '-m', 'part')
    git(repo, 'config', 'submodule.recurse', 'true')
    await make(planOf())
    expect(readdirSync(join(planOf().path, 'part'))).toEqual([])
    git(planOf().path, 'submodule', '--quiet', 'update', '--init')
    expect(await workspaces.end(planOf())).toEqual({})
    expect(tracesIn(repo)).toEqual(NOTHING)
  })

  it('may be named by one of its worktrees, from whose commit the branch starts then', async () => {
    const { root, repo, planOf, make, workspaces } = setup()
    makeRepo(repo)
    const side = join(root, 'side')
    git(repo, 'worktree', 'add', '-q', '-b', 'side', side)
    const start = commit(side, 'on-side')
    await make(planOf({ repo: side }))
    expect(git(planOf().path, 'rev-parse', 'HEAD')).toBe(start)
    expect(await workspaces.end(planOf({ repo: side }))).toEqual({})
    expect(tracesIn(repo)).toEqual({ branches: [], worktrees: 1 })
  })

  it('may be a submodule', async () => {
    const { root, repo, planOf, make, workspaces } = setup()
    const part = makeRepo(join(root, 'part'))
    makeRepo(repo)
    git(repo, 'submodule', '--quiet', 'add', part, 'part')
    const inner = join(repo, 'part')
    await make(planOf({ repo: inner }))
    commit(planOf().path, 'own')
    expect(await workspaces.end(planOf({ repo: inner }))).toEqual({ branch: BRANCH, commits: 1 })
    expect(git(inner, 'rev-list', '--count', `main..${BRANCH}`)).toBe('1')
    expect(git(inner, 'status', '--porcelain')).toBe('')
  })

  it.each([
    ['none at all', 'plain', 'no git repository'],
    ['a folder of one', 'repo/inside', 'no git repository'],
    ['missing', 'missing', 'no such folder'],
    ['a file', 'file', 'no folder'],
  ])('that is %s is refused for good', async (_, name, reason) => {
    const { root, repo, planOf, make, workspaces } = setup()
    makeRepo(repo)
    for (const folder of ['plain', 'repo/inside']) mkdirSync(join(root, folder))
    writeFileSync(join(root, 'file'), '')
    const plan = planOf({ repo: join(root, name) })
    const refusal = await refusalOf(make(plan))
    expect(refusal.permanent).toBe(true)
    expect(refusal.message).toContain(`${join(root, name)}: ${reason}`)
    expect(existsSync(dirname(plan.path))).toBe(false)
    expect(await workspaces.end(plan)).toEqual({})
  })

  it.each(['missing', '--upload-pack=touch ran', '-h', 'main:first', 'a\0b', 'two words', '$(touch ran)', '..', '@{-9}'])(
    'without the base %j refuses it for good, naming both',
    async (base) => {
      const { repo, planOf, make } = setup()
      makeRepo(repo)
      const refusal = await refusalOf(make(planOf({ base })))
      expect(refusal.permanent).toBe(true)
      expect(refusal.message).toContain(JSON.stringify(base))
      expect(refusal.message).toContain(repo)
      expect(readdirSync(repo).sort()).toEqual(['.git', 'first'])
      expect(tracesIn(repo)).toEqual(NOTHING)
    },
  )

  it.each(['a b', '-x..', 'a\nupdate refs/heads/main', '../../HEAD', 'a.lock', ''])(
    'never sees %j as a branch',
    async (branch) => {
      const { repo, planOf, make } = setup()
      makeRepo(repo)
      const refusal = await refusalOf(make(planOf({ branch })))
      expect(refusal.permanent).toBe(true)
      expect(refusal.message).toContain('no name for a branch')
      expect(git(repo, 'for-each-ref', '--format=%(refname)')).toBe('refs/heads/main')
    },
  )

  it('with a branch named unstuck is refused for good, since nothing can be put beneath it', async () => {
    const { repo, planOf, make } = setup()
    makeRepo(repo)
    git(repo, 'branch', 'unstuck')
    const refusal = await refusalOf(make(planOf()))
    expect(refusal.permanent).toBe(true)
    expect(refusal.message).toContain("'refs/heads/unstuck'")
    expect(existsSync(dirname(planOf().path))).toBe(false)
  })

  it.runIf(isRoot)('of another user is refused for good, with the fix', async () => {
    const { repo, planOf, make } = setup()
    makeRepo(repo)
    execFileSync('chown', ['-R', '12345', repo])
    const refusal = await refusalOf(make(planOf()))
    expect(refusal.permanent).toBe(true)
    expect(refusal.message).toContain(`git config --global --add safe.directory '${repo}'`)
  })
})

it.runIf(isRoot)('a repository that may not be read is refused for good', () => {
  const { root, repo, planOf } = setup()
  makeRepo(repo)
  chmodSync(repo, 0o700)
  const script = `
    const [module, plan] = process.argv.slice(1)
    const { GitWorkspaces } = await import(module)
    const work = new GitWorkspaces().make(JSON.parse(plan), new AbortController().signal)
    console.log(await work.catch((error) => error.permanent + ' ' + error.message))`
  const said = asNobody(root, script, moduleAt('git-worktree'), JSON.stringify(planOf()))
  expect(said).toContain(`true ${repo}: permission denied; let the user of the supervisor read and write there`)
  expect(existsSync(dirname(planOf().path))).toBe(false)
})

describe('a make that fails', () => {
  /** A filter that runs while files are checked out. */
  function filterBy(repo: string, command: string): void {
    writeFileSync(join(repo, '.gitattributes'), 'first filter=slow\n')
    commit(repo, 'attributes')
    git(repo, 'config', 'filter.slow.smudge', command)
    git(repo, 'config', 'filter.slow.required', 'true')
  }

  /** Resolves when the file is there. */
  async function appears(path: string): Promise<void> {
    const watcher = watch(dirname(path))
    try {
      while (!existsSync(path)) await once(watcher, 'change')
    } finally {
      watcher.close()
    }
  }

  it('D2: in the checkout leaves nothing behind', async () => {
    const { repo, planOf, make } = setup()
    makeRepo(repo)
    filterBy(repo, 'false')
    const refusal = await refusalOf(make(planOf()))
    expect(refusal.permanent).toBe(false)
    expect(refusal.message).toContain('git reset')
    expect(existsSync(dirname(planOf().path))).toBe(false)
    expect(tracesIn(repo)).toEqual(NOTHING)
  })

  it('D2: keeps a branch that has commits of its own', async () => {
    const { repo, planOf, make, workspaces } = setup()
    makeRepo(repo)
    await make(planOf())
    const own = commit(planOf().path, 'own')
    await workspaces.end(planOf())
    git(repo, 'config', 'filter.slow.smudge', 'false')
    git(repo, 'config', 'filter.slow.required', 'true')
    writeFileSync(join(repo, '.git', 'info', 'attributes'), 'first filter=slow\n')
    await refusalOf(make(planOf({ fence: 2 })))
    expect(git(repo, 'rev-parse', BRANCH)).toBe(own)
    expect(tracesIn(repo).worktrees).toBe(0)
  })

  it('D2: because it is not wanted any more ends the running git and all that it started', async () => {
    const { root, repo, planOf, make } = setup()
    makeRepo(repo)
    filterBy(repo, `echo $$ > '${join(root, 'pid.new')}'; mv '${join(root, 'pid.new')}' '${join(root, 'pid')}'; exec sleep 600`)
    const stop = new AbortController()
    const refusal = refusalOf(make(planOf(), stop.signal))
    await appears(join(root, 'pid'))
    stop.abort(new Error('launch timed out'))
    const { permanent, cause } = await refusal
    expect(permanent).toBe(false)
    expect(cause).toEqual(new Error('launch timed out'))
    // Nobody may have collected it yet: its state says Z then.
    const state = () => execFileSync('sh', ['-c', 'ps -o stat= -p "$0" || true', pid], { encoding: 'utf8' }).trim()
    const pid = readFileSync(join(root, 'pid'), 'utf8').trim()
    await until(
      async () => state(),
      (now) => now === '' || now.startsWith('Z'),
    )
    expect(existsSync(dirname(planOf().path))).toBe(false)
    expect(tracesIn(repo)).toEqual(NOTHING)
  })

  it('D7: under which it was ended, by whoever cleans up after a crash, leaves nothing', async () => {
    const { root, repo, planOf, make } = setup()
    makeRepo(repo)
    commit(repo, 'second')
    const [waits, go] = [join(root, 'waits'), join(root, 'go')]
    filterBy(repo, `cat; touch '${waits}'; while [ ! -e '${go}' ]; do sleep 0.02; done`)
    const refusal = refusalOf(make(planOf()))
    await appears(waits)
    expect(await new GitWorkspaces({ env: gitEnv }).end(planOf())).toEqual({})
    expect(tracesIn(repo)).toEqual(NOTHING)
    writeFileSync(go, '')
    expect((await refusal).message).not.toContain('is left there')
    expect(existsSync(planOf().path)).toBe(false)
    expect(tracesIn(repo)).toEqual(NOTHING)
  })

  it('D2: because git takes too long says so', async () => {
    const { repo, planOf, make } = setup({ limitMs: 1500 })
    makeRepo(repo)
    filterBy(repo, 'trap "" TERM; sleep 600')
    const refusal = await refusalOf(make(planOf()))
    expect(refusal.message).toContain('git reset: it took longer than 1500 ms')
    expect(refusal.permanent).toBe(false)
    expect(tracesIn(repo)).toEqual(NOTHING)
  })

  it('D2: because git is missing is refused for good', async () => {
    const { root, repo, planOf, make } = setup({ env: { PATH: '/nonexistent' } })
    makeRepo(repo)
    const refusal = await refusalOf(make(planOf()))
    expect(refusal.message).toBe('git: not found on PATH; install git')
    expect(refusal.permanent).toBe(true)
    expect(readdirSync(root).sort()).toEqual(['repo', 'run'])
  })

  /** @returns whether there is a disk of that size now: mounting may not be allowed */
  function smallDisk(path: string, size: string): boolean {
    mkdirSync(path)
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', path], { stdio: 'ignore' })
    } catch {
      return false
    }
    onTestFinished(() => void execFileSync('umount', [path]))
    return true
  }

  it.for(['workspace', 'repository'])(
    'D2: on a full disk (%s) may be tried again, and leaves nothing',
    async (which, { skip }) => {
      const { root, planOf, make } = setup()
      const disk = join(root, 'disk')
      if (!smallDisk(disk, which === 'workspace' ? '64k' : '1m')) skip('mounting is not allowed here')
      const repo = makeRepo(which === 'workspace' ? join(root, 'repo') : join(disk, 'repo'))
      if (which === 'workspace') {
        writeFileSync(join(repo, 'large'), Buffer.alloc(200_000, 'x'))
        commit(repo, 'second')
      } else fill(disk)
      const plan = { ...planOf({ repo }), path: join(which === 'workspace' ? disk : root, 'sessions', 'j1-1', 'workspace') }
      const refusal = await refusalOf(make(plan))
      expect(refusal.permanent).toBe(false)
      expect(refusal.message).toMatch(/no space left/i)
      expect(existsSync(dirname(plan.path))).toBe(false)
      if (which === 'repository') rmSync(join(disk, 'filler'))
      expect(tracesIn(repo)).toEqual(NOTHING)
    },
  )

  function fill(disk: string): void {
    execFileSync('sh', ['-c', 'cat /dev/zero > "$0/filler" 2>/dev/null || true', disk])
  }
})
