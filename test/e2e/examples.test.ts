/** The examples as a user runs them, each in a small repository of its own that lies around it as ours does. */
import { createHash } from 'node:crypto'
import { chmodSync, cpSync, mkdirSync, writeFileSync } from 'node:fs'
import { delimiter, join, resolve } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { Dispatcher } from '../../src/index.js'
import { scene, unstuck, until } from '../support/processes.js'
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
