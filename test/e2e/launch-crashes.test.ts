/** The crash matrix (BEHAVIOURS D4): a supervisor killed at every boundary of a launch, and what is left a moment later. */
import { resolve } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { Dispatcher } from '../../src/index.js'
import { scene, unstuck, until } from '../support/processes.js'
import { agentScene, git, isAlive, k, QUEUE, repository } from '../support/sessions.js'

const DIE_AT_STEP = resolve(import.meta.dirname, '../fixtures/die-at-step.mjs')
const FAST = { loops: { pollIntervalMs: 1000 }, heartbeat: { intervalMs: 200, timeoutMs: 1500 } }

async function setup(script: string, queue: object = {}) {
  const stage = await scene()
  const agent = agentScene(stage)
  const repo = repository(stage.dir)
  const session = agent.session(script, { workspace: { git: repo } })
  const config = stage.config('unstuck', {
    ...FAST,
    queues: { [QUEUE]: { session, silentAfterMs: 60_000, attempts: { backoffMs: [100] }, ...queue } },
  })
  const dispatcher = await Dispatcher.connect({ redis: { url: stage.redis.url } })
  onTestFinished(() => dispatcher.close())
  return { ...stage, agent, repo, config, dispatcher }
}

const COMMITS = 'echo "$UNSTUCK_FENCE" > work && git add work && git commit -qm "of fence $UNSTUCK_FENCE"'

describe('a supervisor killed in a launch', () => {
  const boundaries = ['fence', 'workspace', 'spawn', 'record'].flatMap((step) => [`${step}:before`, `${step}:after`])

  it.each(boundaries)('D4: at %s: the job runs elsewhere, once, and nothing else is left', async (boundary) => {
    const { agent, repo, config, dispatcher, client, supervisor, dir } = await setup(COMMITS)
    const doomed = unstuck(['supervisor', '--config', config, '--port', '0', '--name', 'doomed'], {
      cwd: dir,
      preload: DIE_AT_STEP,
      env: { DIE_AT: boundary },
    })
    await doomed.line((line) => line.event === 'started')
    await dispatcher.add(QUEUE, { task: 1 }, { jobId: 'task' })
    expect(await doomed.exited).toBe('SIGKILL')
    await supervisor(config, ['--name', 'heir'])
    const job = await until(
      () => dispatcher.job(QUEUE, 'task'),
      (found) => found.status === 'completed',
    )

    // The loss is charged, and what completes is the second claim.
    expect(job).toMatchObject({ attemptsMade: 2, fence: 2 })
    const runs = agent.runs()
    expect(runs.filter(({ what, fence }) => what === 'end' && fence === 2)).toHaveLength(1)
    expect(runs.filter(({ fence }) => fence > 2)).toEqual([])
    for (const { pid } of runs) expect(isAlive(pid)).toBe(false)
    await until(agent.records, (records) => Object.keys(records).length === 0)
    expect(agent.folders()).toEqual([])
    expect(git(repo, 'worktree', 'list').split('\n')).toHaveLength(1)
    // What an earlier run committed before its end is kept below.
    expect(git(repo, 'log', '--format=%s', '-1', `unstuck/${QUEUE}/task`)).toBe('of fence 2')
    expect(await client.llen(k.active)).toBe(0)
  })

  it('D4: while its session runs: the session ends with it, its commits stay, and the next run goes on from them', async () => {
    const stage = await setup('')
    const { agent, repo, config, dispatcher, supervisor } = stage
    agent.session(`if [ "$UNSTUCK_FENCE" = 1 ]; then ${COMMITS}; trap '' TERM; while :; do sleep 0.1; done; fi; ${COMMITS}`)
    const doomed = await supervisor(config, ['--name', 'doomed'])
    await dispatcher.add(QUEUE, {}, { jobId: 'task' })
    const [first] = await until(
      async () => agent.runs(),
      (runs) => runs.length === 1,
    )
    await until(
      async () => git(repo, 'branch', '--list', '--format=%(refname:short) %(subject)', 'unstuck/*'),
      (branch) => branch.endsWith('of fence 1'),
    )
    doomed.kill('SIGKILL')
    await doomed.exited
    await until(
      async () => isAlive(first?.pid ?? 0),
      (alive) => !alive,
      4000,
    )
    await supervisor(config, ['--name', 'heir'])
    await until(
      () => dispatcher.job(QUEUE, 'task'),
      (found) => found.status === 'completed',
    )
    expect(git(repo, 'log', '--format=%s', `unstuck/${QUEUE}/task`).split('\n')).toEqual(['of fence 2', 'of fence 1', 'first'])
    await until(agent.records, (records) => Object.keys(records).length === 0)
    expect(git(repo, 'worktree', 'list').split('\n')).toHaveLength(1)
  })
})

/** Its session runs, and is written down. */
const launched = (agent: ReturnType<typeof agentScene>) =>
  until(
    async () => JSON.parse((await agent.records())['task'] ?? '{}') as { process?: object },
    ({ process }) => process !== undefined,
  )

/** It has seen that its session is another's when its slot is free again. */
const letGoByOne = (dispatcher: Dispatcher) =>
  until(
    () => dispatcher.status(),
    ({ supervisors }) => supervisors.find(({ name }) => name === 'one')?.jobs.length === 0,
  )

describe('orphans: adopt', () => {
  it('a session outlives its supervisor, is adopted by the next one, and its exit completes the job: one run, one attempt', async () => {
    const stage = await setup('', { orphans: 'adopt' })
    const { agent, repo, config, dispatcher, supervisor, client } = stage
    agent.session(`${agent.untilReleased}; ${COMMITS}`)
    const first = await supervisor(config, ['--name', 'one'])
    await dispatcher.add(QUEUE, {}, { jobId: 'task' })
    await launched(agent)
    first.kill('SIGKILL')
    await first.exited
    const second = await supervisor(config, ['--name', 'two'])
    await second.line((line) => line.event === 'session_adopted')
    expect(agent.runs()).toHaveLength(1)
    agent.release()
    const job = await until(
      () => dispatcher.job(QUEUE, 'task'),
      (found) => found.status === 'completed',
    )
    expect(job).toMatchObject({ attemptsMade: 1, fence: 1 })
    expect(agent.runs().map(({ what, fence }) => [what, fence])).toEqual([
      ['start', 1],
      ['end', 1],
    ])
    expect(JSON.parse((await client.hget(k.job('task'), 'returnvalue')) ?? '')).toEqual({
      exitCode: 0,
      branch: `unstuck/${QUEUE}/task`,
      commits: 1,
    })
    expect(git(repo, 'worktree', 'list').split('\n')).toHaveLength(1)
  })

  /** A session of supervisor `one`, which was stopped and taken for lost, under `two` by now. */
  async function adoptedByTwo() {
    const stage = await setup('', { orphans: 'adopt', lockDurationMs: 2000 })
    const { agent, config, dispatcher, supervisor } = stage
    agent.session(agent.untilReleased)
    const one = await supervisor(config, ['--name', 'one'])
    await dispatcher.add(QUEUE, {}, { jobId: 'task' })
    await launched(agent)
    await until(
      async () => agent.runs(),
      (runs) => runs.length === 1,
    )
    one.kill('SIGSTOP')
    const two = await supervisor(config, ['--name', 'two'])
    await two.line((line) => line.event === 'session_adopted')
    return { ...stage, one, two }
  }

  it('D5: a supervisor that was only cut off finds its session adopted, and leaves it alone', async () => {
    const { agent, dispatcher, one } = await adoptedByTwo()
    one.kill('SIGCONT')
    await letGoByOne(dispatcher)
    expect(isAlive(agent.runs()[0]?.pid ?? 0)).toBe(true)
    agent.release()
    await completedOnce(dispatcher, agent)
  })

  it('D5: when it comes back to a session that has ended meanwhile, it leaves the exit code to the one that adopted it', async () => {
    const { agent, dispatcher, one, two } = await adoptedByTwo()
    two.kill('SIGSTOP')
    agent.release()
    await until(
      async () => agent.runs(),
      (runs) => runs.length === 2,
    )
    one.kill('SIGCONT')
    await letGoByOne(dispatcher)
    two.kill('SIGCONT')
    await completedOnce(dispatcher, agent)
  })

  async function completedOnce(dispatcher: Dispatcher, agent: ReturnType<typeof agentScene>): Promise<void> {
    await until(
      () => dispatcher.job(QUEUE, 'task'),
      (found) => found.status === 'completed',
    )
    expect(agent.runs().map(({ what, fence }) => [what, fence])).toEqual([
      ['start', 1],
      ['end', 1],
    ])
    await until(agent.records, (records) => Object.keys(records).length === 0)
  }
})
