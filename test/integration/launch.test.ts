/** A failure thrown at every step of a launch (BEHAVIOURS D2, D6), with real git, real processes and a real Redis. */
import { mkdtempSync, rmSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Queue, Worker } from 'bullmq'
import { Redis } from 'ioredis'
import { describe, expect, it, onTestFinished } from 'vitest'
import { redisSessionRecords } from '../../src/dispatch/redis-sessions.js'
import { ChildSessions } from '../../src/launch/child-session.js'
import { GitWorkspaces } from '../../src/launch/git-worktree.js'
import { type LaunchPorts, launch } from '../../src/launch/launch.js'
import { layToRest } from '../../src/launch/lay-to-rest.js'
import type { SessionRecord } from '../../src/launch/session.js'
import { startTestRedis } from '../support/redis.js'
import { git, isAlive, repository } from '../support/sessions.js'

const QUEUE = 'agents'
const OWNER = 'one#0123456789ab'
const BRANCH = `unstuck/${QUEUE}/task`
const TOKEN = 'token'

async function setup() {
  const dir = mkdtempSync(join(tmpdir(), 'unstuck-launch-'))
  const server = await startTestRedis()
  const redis = new Redis(server.url)
  const connection = { url: server.url }
  const queue = new Queue(QUEUE, { connection })
  const worker = new Worker(QUEUE, null, { connection, name: OWNER, autorun: false })
  onTestFinished(async () => {
    await worker.close(true)
    await queue.close()
    redis.disconnect()
    await server.stop()
    rmSync(dir, { recursive: true, force: true })
  })
  await queue.add('task', {}, { jobId: 'task' })
  const job = await worker.getNextJob(TOKEN)
  const claim = { id: 'task', token: TOKEN, fence: job?.attemptsStarted ?? 0 }
  const repo = repository(dir)
  const folder = join(dir, 'run', 'task-1')
  const record: SessionRecord = {
    queue: QUEUE,
    job: 'task',
    fence: claim.fence,
    owner: OWNER,
    host: 'here',
    folder,
    workspace: { path: join(folder, 'workspace'), git: { repo, branch: BRANCH } },
  }
  const records = redisSessionRecords(
    { redis, bullPrefix: 'bull', host: 'here', owner: OWNER, lockDurationMs: 30_000, onUnreadable: () => undefined },
    QUEUE,
  )
  const ports: LaunchPorts = { records, sessions: new ChildSessions(), workspaces: new GitWorkspaces() }
  const pids: number[] = []
  const start = (changed: Partial<LaunchPorts>, undone: string[] = []) =>
    launch(
      {
        claim,
        record,
        spec: {
          folder,
          cwd: record.workspace.path,
          command: '/bin/sleep',
          args: ['600'],
          env: { PATH: '/usr/bin:/bin' },
          input: 'null',
          logBytes: 65_536,
          lostGraceMs: 500,
          survives: false,
        },
        graceMs: 500,
        signal: new AbortController().signal,
        onStep: () => undefined,
        onUndoFailed: (step) => void undone.push(step),
      },
      { ...ports, ...changed },
    )
  return {
    ...{ redis, ports, records, record, start, claim, repo, pids },
    /** What is there of this launch, anywhere. */
    async left() {
      return {
        records: await redis.hgetall(`bull:${QUEUE}:unstuck:sessions:here`),
        worktrees: git(repo, 'worktree', 'list').split('\n').length,
        branches: git(repo, 'branch', '--list', 'unstuck/*'),
        folders: await readdir(join(dir, 'run')).catch(() => []),
        running: pids.filter(isAlive),
      }
    },
  }
}

const NOTHING = { records: {}, worktrees: 1, branches: '', folders: [], running: [] }

class Broken extends Error {}
const broken = async (): Promise<never> => {
  throw new Broken('broken by the test')
}

describe('a launch that fails', () => {
  type Setup = Awaited<ReturnType<typeof setup>>
  /** A spawn whose process is noted. */
  const noting =
    ({ ports, pids }: Setup) =>
    async (spec: Parameters<LaunchPorts['sessions']['spawn']>[0]) => {
      const process = await ports.sessions.spawn(spec)
      pids.push(process.id.pid)
      return process
    }
  const sessionsOf = ({ ports }: Setup, changed: Partial<LaunchPorts['sessions']>): LaunchPorts['sessions'] =>
    Object.assign(Object.create(ports.sessions) as LaunchPorts['sessions'], changed)

  const failures: [string, string, (at: Setup) => Partial<LaunchPorts>][] = [
    ['before the record is written', 'fence', ({ records }) => ({ records: { ...records, open: broken } })],
    [
      'after the record was written, its reply lost',
      'fence',
      ({ records }) => ({
        records: {
          ...records,
          open: async (...args) => {
            await records.open(...args)
            return broken()
          },
        },
      }),
    ],
    [
      'before the workspace',
      'workspace',
      ({ ports }) => ({ workspaces: { make: broken, end: (...args) => ports.workspaces.end(...args) } }),
    ],
    ['after the workspace was made, before the spawn', 'spawn', (at) => ({ sessions: sessionsOf(at, { spawn: broken }) })],
    [
      'after the spawn: the write that follows it fails',
      'record',
      (at) => ({ records: { ...at.records, update: broken }, sessions: sessionsOf(at, { spawn: noting(at) }) }),
    ],
    [
      'after the spawn: the job was taken meanwhile',
      'record',
      (at) => ({
        records: {
          ...at.records,
          update: async (...args) => {
            await at.redis.hincrby(`bull:${QUEUE}:task`, 'ats', 1)
            return at.records.update(...args)
          },
        },
        sessions: sessionsOf(at, { spawn: noting(at) }),
      }),
    ],
  ]

  it.each(failures)('D2: %s: everything is as before', async (when, step, breaking) => {
    const at = await setup()
    const undone: string[] = []
    const outcome = await at.start(breaking(at), undone)
    expect(outcome).toMatchObject({ kind: 'refused', step, ambiguous: false })
    expect(undone).toEqual([])
    if (when.includes('reply lost')) {
      // Nobody can know that it was written: the reconcile loop finds it as a record of ours without a session.
      expect(Object.keys((await at.left()).records)).toEqual(['task'])
      expect({ ...(await at.left()), records: {} }).toEqual(NOTHING)
    } else {
      expect(await at.left()).toEqual(NOTHING)
    }
  })

  it('and whose undo fails is ambiguous: its record stays, and the next launch ends what is left before it begins', async () => {
    const at = await setup()
    const undone: string[] = []
    const sessions = sessionsOf(at, { spawn: noting(at), end: broken })
    const first = await at.start({ sessions, records: { ...at.records, update: broken } }, undone)
    expect(first).toMatchObject({ kind: 'refused', step: 'record', ambiguous: true })
    expect(undone).toEqual(['spawn'])
    expect((await at.left()).running).toHaveLength(1)
    await at.redis.hincrby(`bull:${QUEUE}:task`, 'ats', 1)
    const next = { ...at.claim, fence: at.claim.fence + 1 }
    const found = await at.records.open(next, { ...at.record, fence: next.fence })
    if (typeof found === 'string') throw new Error(`the record did not stay: ${found}`)
    expect(found.fence).toBe(at.claim.fence)
    await layToRest(found, at.ports, { graceMs: 500, keep: false })
    expect(await at.left()).toEqual(NOTHING)
    expect(await at.records.open(next, { ...at.record, fence: next.fence })).toBe('opened')
  })

  it('and one that does not: started, written down, and gone with its shim', async () => {
    const at = await setup()
    const outcome = await at.start({})
    if (outcome.kind !== 'started') throw new Error('not started')
    const kept = JSON.parse((await at.left()).records['task'] ?? '{}') as SessionRecord
    expect(kept.process).toEqual(outcome.process.id)
    expect(git(at.repo, 'branch', '--list', '--format=%(refname:short)', 'unstuck/*')).toBe(BRANCH)
    outcome.process.kill()
    expect((await outcome.process.ended).kind).toBe('lost')
    expect(isAlive(outcome.process.id.pid)).toBe(false)
  })
})
