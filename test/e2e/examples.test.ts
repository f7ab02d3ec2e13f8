/** The examples as a user runs them; those with a config each in a small repository that lies around it as ours does. */
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { chmodSync, cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { delimiter, join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, it, onTestFinished } from 'vitest'
import { readBeats } from '../../src/heartbeat/redis-heartbeats.js'
import { Dispatcher } from '../../src/index.js'
import { fleetKeys } from '../../src/platform/redis-keys.js'
import { type LogLine, launch, scene, unstuck, until } from '../support/processes.js'
import { git, repository } from '../support/sessions.js'

const ROOT = resolve(import.meta.dirname, '../..')
const README = '# Small\n\nTODO: write more\n'

/** A supervisor with the example's own config, copied to where its relative paths lead to the small repository. */
async function setup(example: string) {
  const stage = await scene()
  const repo = repository(stage.dir)
  const folder = join(repo, 'examples', example)
  cpSync(join(ROOT, 'examples', example), folder, { recursive: true })
  const readme = join(repo, 'README.md')
  writeFileSync(readme, README)
  git(repo, 'add', 'README.md')
  git(repo, 'commit', '-q', '-m', 'second')
  const config = join(folder, 'unstuck.config.mjs')
  const env = { REDIS_URL: stage.redis.url, PATH: `${installed(stage.dir)}${delimiter}${process.env['PATH'] ?? ''}` }
  await stage.supervisor(config, [], { cwd: repo, env })
  const dispatcher = await Dispatcher.connect({ redis: { url: stage.redis.url } })
  onTestFinished(() => dispatcher.close())
  return {
    ...stage,
    repo,
    readme,
    async enqueue(queue: string, tasks: Readonly<Record<string, unknown>>) {
      const file = join(stage.dir, 'jobs.ndjson')
      const lines = Object.entries(tasks).map(([jobId, data]) => JSON.stringify({ jobId, data }))
      writeFileSync(file, lines.join('\n'))
      const added = unstuck(['enqueue', queue, '--config', config, '--file', file], { cwd: repo, env })
      expect(await added.exited, added.output()).toBe(0)
    },
    job: (queue: string, word: string, id = 'first') =>
      until(
        () => dispatcher.job(queue, id),
        ({ status, reason }) => status === word || reason === word,
      ),
    result: async (queue: string) => JSON.parse((await stage.client.hget(`bull:${queue}:first`, 'returnvalue')) ?? 'null'),
  }
}

/** @returns a folder for the PATH with the command as a package would install it */
function installed(dir: string): string {
  const bin = join(dir, 'bin')
  mkdirSync(bin)
  const command = join(bin, 'unstuck')
  writeFileSync(command, `#!/bin/sh\nexec '${process.execPath}' '${join(ROOT, 'dist/cli/main.js')}' "$@"\n`)
  chmodSync(command, 0o755)
  return bin
}

describe('examples/agents', () => {
  it('leaves a report on a branch of the job, tells its progress, and touches nothing else', async () => {
    const { repo, enqueue, job, result } = await setup('agents')
    await enqueue('agents', { first: { folder: 'README.md', width: 10 } })
    const { output } = await job('agents', 'completed')
    const branch = 'unstuck/agents/first'
    expect(await result('agents')).toEqual({ exitCode: 0, branch, commits: 1 })
    expect(output?.split('\n')).toEqual([
      `reading README.md on ${branch}`,
      'counting the lines of 1 files',
      'writing REPORT.md',
      `committed ${git(repo, 'rev-parse', '--short', branch)}`,
      '',
    ])
    const report = git(repo, 'show', `${branch}:REPORT.md`)
    expect(report).toContain('1 files, 3 lines, 1 of them longer than 10 characters, 1 with TODO or FIXME.')
    expect(report).toContain('| 3 | 1 | 1 | README.md |')
    expect(git(repo, 'log', '--format=%s by %an', `main..${branch}`)).toBe('Report on README.md by agent')
    expect(git(repo, 'branch', '--show-current')).toBe('main')
    expect(git(repo, 'worktree', 'list').split('\n')).toHaveLength(1)
  })

  it('refuses for good what is no task, runs nothing of it, and leaves no branch', async () => {
    const { repo, enqueue, job } = await setup('agents')
    const noFolder = 'task: folder: no text of this repository in it'
    const hostile = {
      width: { data: { width: '1; touch pwned' }, why: 'task: width: not a whole number' },
      outside: { data: { folder: '../..' }, why: noFolder },
      script: { data: { folder: '$(touch pwned)' }, why: noFolder },
    }
    await enqueue('agents', Object.fromEntries(Object.entries(hostile).map(([id, { data }]) => [id, data])))
    for (const [id, { why }] of Object.entries(hostile)) {
      const lastError = `the session ended with exit code 64: ${why}`
      expect(await job('agents', 'permanent', id)).toMatchObject({ attemptsMade: 1, lastError })
    }
    expect(git(repo, 'branch', '--list', 'unstuck/*')).toBe('')
  })
})

describe('examples/checksums', () => {
  it('hashes a file', async () => {
    const { readme, enqueue, job, result } = await setup('checksums')
    await enqueue('checksums', { first: { path: readme } })
    await job('checksums', 'completed')
    const sha256 = createHash('sha256').update(README).digest('hex')
    expect(await result('checksums')).toMatchObject({ sha256, bytes: README.length })
  })
})

/** Generous: each gets stuck within seconds and stays so for 20 s, on a machine that is idle. */
const LIMIT_MS = 90_000

/** A program of an example, watched from outside with nothing configured. `stuck` and `resumed` are what its README promises. */
async function watched(example: string, args: readonly string[]) {
  const { client, redis, config, watchdog } = await scene()
  const watchdog1 = await watchdog(config('watchdog', {}))
  const folder = join(ROOT, 'examples', example)
  const program = launch(process.execPath, args, { cwd: folder, env: { REDIS_URL: redis.url } })
  const promised = (word: string) => readFileSync(join(folder, 'README.md'), 'utf8').match(new RegExp(`^${word} .*$`, 'm'))?.[0]
  const next = (event: string, subject: string) =>
    Promise.race([
      watchdog1.line((line) => line.event === event && line['subject'] === subject, LIMIT_MS),
      // It has no reason to end, and would be waited for in vain.
      program.exited.then((end): never => {
        throw new Error(`ended with ${end}:\n${program.output()}`)
      }),
    ])
  return {
    program,
    async seesWhatItSays(subject: string): Promise<LogLine> {
      const stuck = await next('stuck', subject)
      expect(withoutNumbers(stuck.msg)).toBe(withoutNumbers(promised('STUCK') ?? ''))
      const resumed = await next('resumed', subject)
      expect(withoutNumbers(resumed.msg)).toBe(withoutNumbers(promised('RESUMED') ?? ''))
      expect(resumed).toMatchObject({ incidentId: stuck['incidentId'], outcome: 'recovered' })
      return stuck
    },
    /** Waits until the program beats no more because it said so. */
    saidGoodbye: (name: string) =>
      until(
        async () => (await readBeats(client, fleetKeys('{unstuck}'), [name]))[0],
        (seen) => seen?.bye === true,
      ),
  }
}

/** How long it took, and where the repository lies, differ. */
function withoutNumbers(line: string): string {
  return line.replaceAll(/(\d+ min )?\d+ s\b/g, 'N s').replace(/\([^ ]*(\/examples\/)/, '(…$1')
}

describe('examples/bullmq-app', () => {
  it('delivers, and a delivery that hangs is job_silent until it comes back', async () => {
    const { program, seesWhatItSays, saidGoodbye } = await watched('bullmq-app', ['app.mjs'])
    expect(await seesWhatItSays('job:webhooks/order-2')).toMatchObject({ cause: 'job_silent', queue: 'webhooks' })
    await until(
      async () => program.output(),
      (output) => output.includes('delivered order-1: 200') && output.includes('delivered order-2: 200'),
    )
    program.kill('SIGINT')
    expect(await program.exited).toBe(0)
    await saidGoodbye('webhooks')
  })
})

describe('examples/daemon', () => {
  it('whose cycle hangs behind its guard is poll_stale in its phase, and goes on afterwards', async () => {
    const { program, seesWhatItSays, saidGoodbye } = await watched('daemon', ['daemon.mjs'])
    expect(await seesWhatItSays('supervisor:daemon/loop:dispatch')).toMatchObject({ cause: 'poll_stale' })
    program.kill('SIGTERM')
    expect(await program.exited).toBe(0)
    await saidGoodbye('daemon')
  })
})

describe('examples/nest', () => {
  it('whose processor computes without a pause is loop_blocked, with the job, its step and the line', async () => {
    const { program, seesWhatItSays, saidGoodbye } = await watched('nest', ['--import', 'tsx', 'main.ts'])
    const line = await seesWhatItSays('supervisor:reports/main')
    expect(line).toMatchObject({ cause: 'loop_blocked', jobId: 'large', step: 'add up' })
    const source = readFileSync(join(ROOT, 'examples/nest/main.ts'), 'utf8').split('\n')
    const number = Number(/main\.ts:(\d+)\)$/.exec(String(line['topFrame']))?.[1])
    expect(source[number - 1]).toContain('while (Date.now() < end)')
    program.kill('SIGTERM')
    // Nest runs its hooks, and then ends by the signal that it got.
    expect(await program.exited).toBe('SIGTERM')
    await saidGoodbye('reports')
  })

  it('compiles with the types of the package', async () => {
    const tsc = createRequire(import.meta.url).resolve('typescript/bin/tsc')
    await promisify(execFile)(process.execPath, [tsc, '-p', 'examples/nest'], { cwd: ROOT }).catch(
      (error: { stdout: string }) => {
        throw new Error(error.stdout)
      },
    )
  })
})

describe('examples', () => {
  it('are all told of in the README of their folder', () => {
    const entries = readdirSync(join(ROOT, 'examples'), { withFileTypes: true })
    const folders = entries.filter((entry) => entry.isDirectory()).map(({ name }) => name)
    const page = readFileSync(join(ROOT, 'examples/README.md'), 'utf8')
    expect([...page.matchAll(/^\| \[([a-z-]+)\]/gm)].map(([, name]) => name).sort()).toEqual(folders.sort())
  })
})
