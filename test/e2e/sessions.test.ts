/** Queues of sessions from the outside: real supervisors, real git, real processes (BEHAVIOURS D). */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { Dispatcher } from '../../src/index.js'
import { type Scene, scene, until } from '../support/processes.js'
import { agentScene, git, isAlive, k, QUEUE, repository } from '../support/sessions.js'

const FAST = {
  loops: { pollIntervalMs: 1000 },
  heartbeat: { intervalMs: 200, timeoutMs: 1500, threadBlockedMs: 1000 },
  watchdog: { intervalMs: 200 },
}
const CLI = `'${process.execPath}' '${resolve(import.meta.dirname, '../../dist/cli/main.js')}'`

interface Wanted {
  readonly session?: (stage: Scene) => object
  readonly queue?: object
}

/** @param script what the agent does, or what gives it */
async function setup(script: string | ((stage: Scene) => string), { session, queue = {} }: Wanted = {}) {
  const stage = await scene()
  const agent = agentScene(stage)
  const text = typeof script === 'string' ? script : script(stage)
  const wanted = agent.session(text, session?.(stage))
  const queues = { [QUEUE]: { session: wanted, attempts: { backoffMs: [100] }, ...queue } }
  const config = stage.config('unstuck', { ...FAST, queues })
  const dispatcher = await Dispatcher.connect({ redis: { url: stage.redis.url }, queues })
  onTestFinished(() => dispatcher.close())
  return {
    ...stage,
    agent,
    dispatcher,
    config,
    add: async (data: unknown = {}, id = 'task') => void (await dispatcher.add(QUEUE, data, { jobId: id })),
    start: (name = 'one') => stage.supervisor(config, ['--name', name]),
    watch: () => stage.watchdog(config),
    /** Waits until the job's view has this status or reason. */
    job: (word: string, id = 'task') =>
      until(
        () => dispatcher.job(QUEUE, id),
        (found) => found.status === word || found.reason === word,
      ),
    started: async (count = 1) => {
      const starts = () => agent.runs().filter(({ what }) => what === 'start')
      return until(
        async () => starts(),
        (runs) => runs.length >= count,
      )
    },
    file: (name: string) => join(stage.dir, name),
    result: async (id = 'task') => JSON.parse((await stage.client.hget(k.job(id), 'returnvalue')) ?? 'null') as unknown,
  }
}

const inRepository = (stage: Scene) => ({ workspace: { git: repository(stage.dir) } })

describe('a session', () => {
  it('works in a worktree of its own, reads its job on standard input, and leaves a branch and its last output', async () => {
    const { start, add, job, result, agent, file } = await setup(
      'cat > input.json; git add . && git commit -qm work; echo "$1 on $UNSTUCK_QUEUE in attempt $UNSTUCK_ATTEMPT"',
      { session: (stage) => ({ ...inRepository(stage), args: ['{task}'] }) },
    )
    await start()
    await add({ task: 'mend', secret: 'of the job' })
    const done = await job('completed')
    expect(done.output).toBe(`mend on ${QUEUE} in attempt 1\n`)
    expect(await result()).toEqual({ exitCode: 0, branch: `unstuck/${QUEUE}/task`, commits: 1 })
    expect(JSON.parse(git(file('repo'), 'show', `unstuck/${QUEUE}/task:input.json`))).toEqual({
      task: 'mend',
      secret: 'of the job',
    })
    expect(agent.folders()).toEqual([])
    expect(await agent.records()).toEqual({})
  })

  it('is told apart by its exit code: retried, permanent where the config says so, and the last line of output is the error', async () => {
    const { start, add, job, agent } = await setup('echo "because $1"; exit "$2"', {
      session: () => ({ args: ['{why}', '{code}'], permanentExitCodes: [9] }),
      queue: { attempts: { max: 2, backoffMs: [100] } },
    })
    await start()
    await add({ why: 'of-this', code: 3 }, 'passing')
    await add({ why: 'of-that', code: 9 }, 'final')
    expect((await job('exhausted', 'passing')).lastError).toBe('the session ended with exit code 3: because of-this')
    expect(await job('permanent', 'final')).toMatchObject({
      attemptsMade: 1,
      lastError: 'the session ended with exit code 9: because of-that',
    })
    expect(agent.runs().filter(({ job: id }) => id === 'passing')).toHaveLength(2)
  })

  it('D1: never runs beside more of its queue than the config allows, however many supervisors start at once', async () => {
    const { start, add, started, agent, job } = await setup((stage) => agentScene(stage).untilReleased, {
      queue: { concurrency: 2 },
    })
    const ids = Array.from({ length: 6 }, (_, index) => `task-${index}`)
    for (const id of ids) await add({}, id)
    const [one, two] = await Promise.all([start('one'), start('two')])
    await started(4)
    agent.release()
    for (const id of ids) await job('completed', id)
    const runs = agent.runs()
    expect(
      runs
        .filter(({ what }) => what === 'start')
        .map((run) => run.job)
        .sort(),
    ).toEqual(ids)
    expect(runs.slice(0, 4).every(({ what }) => what === 'start')).toBe(true)
    expect(runs[4]?.what).toBe('end')
    expect([one, two].every(({ child }) => child.exitCode === null)).toBe(true)
  })
})

describe('what cannot be launched', () => {
  it.each([
    ['a command that does not exist', { command: 'no-such-agent-anywhere' }, /no-such-agent-anywhere/, 'permanent'],
    ['a folder that is no repository', { workspace: { git: '.' } }, /repository/, 'permanent'],
  ])('%s: permanent, with the reason, and nothing is left', async (_what, session, why, reason) => {
    const { start, add, job, agent } = await setup('', { session: () => session })
    const supervisor = await start()
    await add()
    const failed = await job(reason)
    expect(failed.lastError).toMatch(why)
    expect(failed.attemptsMade).toBe(1)
    const line = await supervisor.line(({ event }) => event === 'launch_rolled_back')
    expect(line).toMatchObject({ queue: QUEUE, count: 1, jobIds: ['task'] })
    expect(agent.runs()).toEqual([])
    expect(agent.folders()).toEqual([])
    expect(await agent.records()).toEqual({})
  })

  it('job data that would be an option, a script or a way out of the folder: permanent, nothing is executed, no value is told', async () => {
    const { start, add, job, agent } = await setup('', { session: () => ({ args: ['{value}'] }) })
    const supervisor = await start()
    const hostile = ['../../etc', '--upload-pack=touch pwned', '$(touch pwned)', '-rf', 'nul\0byte', '`id`']
    for (const [index, value] of hostile.entries()) await add({ value }, `hostile-${index}`)
    for (const index of hostile.keys()) expect((await job('permanent', `hostile-${index}`)).lastError).toContain('{value}')
    expect(agent.runs()).toEqual([])
    for (const value of hostile) expect(supervisor.output()).not.toContain(value)
  })
})

describe('a session that is told to end', () => {
  it('cancel: TERM for the whole group, then KILL after the grace, and the job is cancelled', async () => {
    const { start, add, job, started, dispatcher, file } = await setup(
      (stage) => `trap '' TERM; sh -c 'trap "" TERM; echo $$ > ${join(stage.dir, 'child')}; sleep 600' & wait; wait`,
      { session: () => ({ graceMs: 500 }) },
    )
    await start()
    await add()
    const [run] = await started()
    await until(
      async () => existsSync(file('child')) && readFileSync(file('child'), 'utf8').trim() !== '',
      (there) => there,
    )
    await dispatcher.cancel(QUEUE, 'task', { reason: 'not needed' })
    await job('cancelled')
    expect(isAlive(run?.pid ?? 0)).toBe(false)
    expect(isAlive(Number(readFileSync(file('child'), 'utf8')))).toBe(false)
  })

  it('D13: SIGTERM to the supervisor hands its job back uncharged, ends the session, and nobody is STUCK', async () => {
    const { start, add, started, job, agent, client, dispatcher } = await setup((stage) => agentScene(stage).untilReleased, {
      queue: {},
    })
    const first = await start()
    await add()
    const [run] = await started()
    first.kill('SIGTERM')
    first.kill('SIGTERM')
    expect(await first.exited).toBe(0)
    expect(isAlive(run?.pid ?? 0)).toBe(false)
    expect(await client.hget(k.job('task'), 'atm')).not.toBe('1')
    expect(await agent.records()).toEqual({})
    await start('two')
    await started(2)
    agent.release()
    expect(await job('completed')).toMatchObject({ attemptsMade: 1 })
    expect((await dispatcher.status()).incidents).toEqual([])
  })
})

describe('signs of life', () => {
  it('D5: a launch that shows none is launch_overdue, once, and RESUMED at its first output; there is never a second session', async () => {
    const { start, add, watch, agent, job, started, file } = await setup(
      (stage) => `${agentScene(stage).untilReleased}; echo awake; while [ ! -e '${stage.dir}/end' ]; do sleep 0.05; done`,
      { queue: { launchTimeoutMs: 1500 } },
    )
    const watchdog = await watch()
    await start()
    await add()
    await started()
    const stuck = await watchdog.line(({ event }) => event === 'stuck')
    expect(stuck).toMatchObject({ subject: `job:${QUEUE}/task`, cause: 'launch_overdue', phase: 'launch sign_of_life' })
    await job('launching')
    agent.release()
    await watchdog.line(({ event }) => event === 'resumed')
    await job('running')
    writeFileSync(file('end'), '')
    await job('completed')
    expect(agent.runs().filter(({ what }) => what === 'start')).toHaveLength(1)
    expect(watchdog.lines.filter(({ event }) => event === 'stuck')).toHaveLength(1)
  })

  it('D11: beats with progress are left alone; the same progress for ever, with any output, is job_silent', async () => {
    const { start, add, watch, agent } = await setup(
      (stage) =>
        `${CLI} beat --progress start || exit 7
         n=0; while [ ! -e '${stage.dir}/release' ]; do echo busy; n=$((n + 1)); touch "$UNSTUCK_HEARTBEAT_FILE"; sleep 0.1; done
         ${CLI} beat --progress moved; while [ ! -e '${stage.dir}/end' ]; do sleep 0.05; done`,
      { queue: { silentAfterMs: 2500 } },
    )
    const watchdog = await watch()
    await start()
    await add()
    const stuck = await watchdog.line(({ event }) => event === 'stuck')
    expect(stuck).toMatchObject({ subject: `job:${QUEUE}/task`, cause: 'job_silent' })
    agent.release()
    await watchdog.line(({ event }) => event === 'resumed')
  })

  it('D5: `unstuck fence check` says 0 while the session owns its job, and 1 to one whose job was taken', async () => {
    const { start, add, started, file, client, job } = await setup(
      (stage) =>
        `trap '' TERM; if [ "$UNSTUCK_FENCE" = 1 ]; then
           ${CLI} fence check; echo $? > '${stage.dir}/before'
           while [ ! -e '${stage.dir}/taken' ]; do sleep 0.05; done
           ${CLI} fence check; echo $? > '${stage.dir}/after'
         fi`,
      { session: () => ({ graceMs: 60_000 }) },
    )
    await start()
    await add()
    await started()
    await until(
      async () => existsSync(file('before')) && readFileSync(file('before'), 'utf8'),
      (code) => code === '0\n',
    )
    // Another supervisor's claim, as a partition would bring it: the fence has moved on.
    await client.hincrby(k.job('task'), 'ats', 1)
    await client.set(k.lock('task'), 'another', 'PX', 60_000)
    writeFileSync(file('taken'), '')
    await until(
      async () => existsSync(file('after')) && readFileSync(file('after'), 'utf8'),
      (code) => code === '1\n',
    )
    await client.del(k.lock('task'))
    await job('completed')
  })
})

describe('two hosts', () => {
  const OTHER_HOST = resolve(import.meta.dirname, '../fixtures/other-host.mjs')

  it('D9: a supervisor cut off while another runs its job: on waking its session is ended and its result refused', async () => {
    const { dir, config, supervisor, add, started, job, agent, client, dispatcher } = await setup(
      (stage) => `${agentScene(stage).untilReleased}; git commit -q --allow-empty -m "of fence $UNSTUCK_FENCE"`,
      { session: inRepository },
    )
    const first = await supervisor(config, ['--name', 'one'])
    await add()
    const [cutOff] = await started()
    first.kill('SIGSTOP')
    await supervisor(config, ['--name', 'two'], {
      preload: OTHER_HOST,
      env: { HOST_NAME: 'elsewhere', UNSTUCK_RUNTIME_DIR: join(dir, 'elsewhere') },
    })
    // Another host has another clone; here both have the one repository, so its branch is the first one's still.
    const second = await until(
      () => dispatcher.job(QUEUE, 'task'),
      (found) => found.fence > 1,
    )
    expect(second.fence).toBe(2)
    expect(isAlive(cutOff?.pid ?? 0)).toBe(true)
    first.kill('SIGCONT')
    await until(
      async () => isAlive(cutOff?.pid ?? 0),
      (alive) => !alive,
    )
    await until(agent.records, (records) => Object.keys(records).length === 0)
    agent.release()
    const done = await job('completed')
    expect(done.fence).toBeGreaterThanOrEqual(2)
    expect(
      agent
        .runs()
        .filter(({ what }) => what === 'end')
        .map(({ fence }) => fence),
    ).toEqual([done.fence])
    expect(await client.llen(k.active)).toBe(0)
  })
})
