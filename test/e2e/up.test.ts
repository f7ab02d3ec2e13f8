import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { cleanEnv, cli, MAIN, tempFolder } from '../support/cli.js'
import { type LogLine, launch, type Running, until } from '../support/processes.js'

function setup(args: readonly string[], config?: object) {
  const cwd = tempFolder()
  if (config) {
    writeFileSync(join(cwd, 'unstuck.config.mjs'), `export default ${JSON.stringify(config)}`)
    writeFileSync(
      join(cwd, 'wait.mjs'),
      `export default (job, ctx) => ctx.step('wait', () => new Promise((done) => setTimeout(done, job.data.ms ?? 0)))`,
    )
  }
  const start = () => {
    const running = launch(process.execPath, [MAIN, 'up', '--port', '0', ...args], { cwd, env: cleanEnv() })
    // Children leave when `up` is killed, but not before the folder would be removed.
    onTestFinished(() => gone(running))
    return running
  }
  return { cwd, up: start(), start }
}

const mail = { queues: { mail: { handler: './wait.mjs', threads: 1 } } }

/** The pids of everything that `up` has started, from its own and its children's lines. */
function pidsBelow(pid: number): number[] {
  const parents = new Map<number, number>()
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue
    try {
      const stat = readFileSync(`/proc/${entry}/stat`, 'utf8')
      parents.set(Number(entry), Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]))
    } catch {
      // It ended meanwhile.
    }
  }
  const below = (root: number): number[] =>
    [...parents].filter(([, parent]) => parent === root).flatMap(([child]) => [child, ...below(child)])
  return below(pid)
}

const alive = (pids: readonly number[]) => pids.filter((pid) => existsSync(`/proc/${pid}`))

async function gone(running: Running): Promise<void> {
  const pids = pidsBelow(running.pid)
  running.kill('SIGKILL')
  await running.exited
  await until(
    async () => alive(pids),
    (left) => left.length === 0,
    15_000,
  )
}

const ready = (line: LogLine) => line.event === 'ready'

describe('unstuck up --demo', () => {
  it('shows within 20 s what hangs and why, lets it go, drains on Ctrl-C and leaves nothing', async () => {
    const { cwd, up } = setup(['--demo'])
    const started = performance.now()
    const stuck = async (name: string) => up.line((line) => line.event === 'stuck' && String(line['jobId']).startsWith(name))
    const [loop, reply, regex] = await Promise.all([stuck('endless-loop'), stuck('lost-reply'), stuck('catastrophic-regex')])
    expect(performance.now() - started).toBeLessThan(20_000)
    expect(up.output()).toMatch(/dashboard: http:\/\/127\.0\.0\.1:\d+/)
    expect(loop).toMatchObject({ cause: 'thread_blocked', step: 'spin' })
    expect(loop.msg).toMatch(/^STUCK supervisor:.*: thread_blocked for 4 s, in step spin/)
    expect(reply).toMatchObject({ cause: 'job_silent', step: 'await-reply' })
    expect(regex).toMatchObject({ cause: 'thread_blocked', step: 'match' })

    for (const { incidentId } of [loop, reply, regex] as LogLine[] & { incidentId: string }[]) {
      const resumed = await up.line((line) => line.event === 'resumed' && line['incidentId'] === incidentId)
      expect(resumed['outcome']).toBe('recovered')
    }
    await up.line(({ msg }) => msg.startsWith('demo: 2000 files hashed and compressed'), 60_000)
    const summary = await up.line(({ msg }) => msg.startsWith('demo: 3 of 3 hanging jobs were said STUCK, 3 RESUMED'))
    expect(summary.msg).toContain('calls-exit: exhausted after 1 attempt: the thread exited with code 3')
    expect(up.lines.filter((line) => line.event === 'stuck')).toHaveLength(3)
    expect(up.output()).not.toContain('node_modules')

    const pids = pidsBelow(up.pid)
    expect(pids.length).toBeGreaterThanOrEqual(4)
    up.kill('SIGINT')
    expect(await up.exited).toBe(0)
    await until(
      async () => alive(pids),
      (left) => left.length === 0,
    )
    expect(readdirSync(cwd)).toEqual(['.unstuck'])
    expect(readdirSync(join(cwd, '.unstuck'))).toEqual(['redis'])
  })
})

describe('unstuck up', () => {
  it('brings a Redis that other commands in the folder find, and starts again what was killed', async () => {
    const { cwd, up } = setup(['--supervisors', '2'], { ...mail, heartbeat: { intervalMs: 200, timeoutMs: 1000 } })
    await up.line(ready)
    await cli(['enqueue', 'mail', '--job-id', 'j'], { cwd })
    const explained = () => cli(['explain', 'mail', 'j'], { cwd })
    await until(explained, ({ stdout }) => stdout.includes('completed'))

    const beats = JSON.parse((await cli(['status', '--json'], { cwd })).stdout) as {
      supervisors: { name: string; pid: number }[]
    }
    const victim = beats.supervisors.find(({ name }) => name === 'supervisor-1')
    process.kill(victim?.pid ?? 0, 'SIGKILL')
    await up.line((line) => line.event === 'stuck' && line['cause'] === 'process_dead' && line['supervisor'] === 'supervisor-1')
    const resumed = await up.line((line) => line.event === 'resumed')
    expect(resumed['outcome']).toBe('replaced')
    expect(up.lines.some(({ msg }) => /^supervisor-1 ended by itself \(SIGKILL\); started again in 2 s$/.test(msg))).toBe(true)
    up.kill('SIGTERM')
    expect(await up.exited).toBe(0)
  })

  it('leaves nothing behind when it is killed, and starts again at once in the same folder', async () => {
    const { cwd, up, start } = setup([], mail)
    await up.line(ready)
    await cli(['enqueue', 'mail', '--job-id', 'kept', '--delay', '3600000'], { cwd })
    const pids = pidsBelow(up.pid)
    up.kill('SIGKILL')
    await up.exited
    await until(
      async () => alive(pids),
      (left) => left.length === 0,
    )
    const again = start()
    await again.line(ready)
    expect((await cli(['explain', 'mail', 'kept'], { cwd })).stdout).toContain('may run at')
    again.kill('SIGINT')
    expect(await again.exited).toBe(0)
  })

  it('a second Ctrl-C forces: a job that runs is handed back and nothing stays', async () => {
    const { cwd, up } = setup([], mail)
    await up.line(ready)
    await cli(['enqueue', 'mail', '--job-id', 'long', '--data', '{"ms":600000}'], { cwd })
    await until(
      () => cli(['explain', 'mail', 'long'], { cwd }),
      ({ stdout }) => stdout.includes('runs on supervisor'),
    )
    const pids = pidsBelow(up.pid)
    up.kill('SIGINT')
    await up.line((line) => line.event === 'stopping')
    up.kill('SIGINT')
    await up.line((line) => line.event === 'handed_back')
    expect(await up.exited).toBe(0)
    await until(
      async () => alive(pids),
      (left) => left.length === 0,
    )
  })

  it('ends clean when it is stopped while it starts', async () => {
    const { up } = setup([], mail)
    await up.line((line) => line.event === 'embedded_redis')
    const pids = pidsBelow(up.pid)
    up.kill('SIGINT')
    expect(await up.exited).toBe(0)
    await until(
      async () => alive(pids),
      (left) => left.length === 0,
    )
  })

  it('refuses a second one in the same folder, in one line', async () => {
    const { cwd, up } = setup([], mail)
    await up.line(ready)
    const second = await cli(['up', '--port', '0'], { cwd })
    expect(second).toMatchObject({ code: 2, stdout: '' })
    expect(second.stderr).toMatch(/^unstuck: .*already runs in this folder; stop the other `unstuck up` first\n$/)
  })
})
