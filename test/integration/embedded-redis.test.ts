import { type ChildProcess, spawn } from 'node:child_process'
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { UserError } from '../../src/kernel/errors.js'
import { type EmbeddedRedisOptions, startEmbeddedRedis } from '../../src/platform/embedded-redis.js'
import { checkRedis, connectRedis } from '../../src/platform/redis.js'

async function setup() {
  const root = await mkdtemp(join(tmpdir(), 'unstuck-embedded-'))
  onTestFinished(() => rm(root, { recursive: true, force: true }))
  const dir = join(root, '.unstuck', 'redis')
  const complaints: string[] = []
  const log = { error: (_: object, message: string) => complaints.push(message) }
  const start = async (options: Partial<EmbeddedRedisOptions> = {}) => {
    const redis = await startEmbeddedRedis({ dir, env: process.env, log, ...options })
    onTestFinished(() => redis.stop())
    return redis
  }
  const connect = (url: string) => {
    const client = connectRedis(url, 'command')
    onTestFinished(() => client.disconnect())
    return client
  }
  const program = async (name: string, script: string) => {
    const path = join(root, name)
    await writeFile(path, `#!/bin/sh\n${script}\n`)
    await chmod(path, 0o755)
    return path
  }
  return { root, dir, start, connect, complaints, program }
}

async function refusal(promise: Promise<unknown>): Promise<UserError> {
  const error: unknown = await promise.then(
    () => expect.unreachable('was not refused'),
    (thrown: unknown) => thrown,
  )
  return error instanceof UserError ? error : expect.unreachable(String(error))
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

/** Resolves when a process is gone that is no child of ours, so that there is no signal to await. */
const gone = (pid: number) => expect.poll(() => isAlive(pid), { timeout: 10_000, interval: 20 }).toBe(false)

describe('the embedded Redis', () => {
  it('is a suitable server on loopback, and is gone after stop', async () => {
    const { start, connect } = await setup()
    const redis = await start()
    expect(redis).toMatchObject({ kind: 'redis-server', reduced: false })
    const client = connect(redis.url)
    await checkRedis(client)
    expect(await client.config('GET', 'appendonly')).toEqual(['appendonly', 'yes'])
    expect(await client.config('GET', 'bind')).toEqual(['bind', '127.0.0.1'])
    await Promise.all([redis.stop(), redis.stop()])
    expect(isAlive(redis.pid)).toBe(false)
  })

  it('keeps its data in the folder from one run to the next', async () => {
    const { start, connect } = await setup()
    const first = await start()
    await connect(first.url).set('kept', 'yes')
    await first.stop()
    const second = await start()
    expect(await connect(second.url).get('kept')).toBe('yes')
  })

  it('refuses a folder in which another one runs', async () => {
    const { start } = await setup()
    await start()
    const error = await refusal(start())
    expect(error.message).toContain('already runs in this folder')
  })

  it('says so when the server ends by itself', async () => {
    const { start, complaints } = await setup()
    const redis = await start()
    process.kill(redis.pid, 'SIGKILL')
    await expect.poll(() => complaints).toEqual([expect.stringMatching(/redis-server ended by itself/)])
    await redis.stop()
  })

  it('gives the last words of a server that does not come up', async () => {
    const { start, program } = await setup()
    const bin = await program('broken-server', 'echo starting; echo "FATAL: no such luck" >&2; exit 3')
    const error = await refusal(start({ env: { REDIS_SERVER_BIN: bin } }))
    expect(error.code).toBe('REDIS_UNREACHABLE')
    expect(error.message).toMatch(/did not start: FATAL: no such luck$/)
  })

  it('names what to install where there is no server at all', async () => {
    const { start, root } = await setup()
    const error = await refusal(start({ env: { REDIS_SERVER_BIN: join(root, 'none') } }))
    expect(error).toMatchObject({ code: 'REDIS_MISSING', message: expect.stringContaining('REDIS_SERVER_BIN') })
    if (process.versions.node.startsWith('20.')) {
      const nothing = await refusal(start({ env: { PATH: root } }))
      expect(nothing.code).toBe('REDIS_MISSING')
      expect(nothing.message).toContain('apt-get install redis-server')
      expect(nothing.message).toContain('brew install redis')
    }
  })

  it('takes valkey-server where there is no redis-server', async () => {
    const { start, root, program } = await setup()
    await program('valkey-server', 'exec redis-server "$@"')
    const redis = await start({ env: { PATH: root } })
    expect(redis.kind).toBe('valkey-server')
  })
})

describe('the owner of an embedded Redis', () => {
  /** A process that owns one, written in plain JavaScript around the compiled module. */
  async function owner() {
    const { dir } = await setup()
    const script = `
      const { startEmbeddedRedis } = await import(process.argv[1])
      const redis = await startEmbeddedRedis({ dir: process.argv[2], env: process.env, log: console })
      process.on('SIGINT', () => console.log('interrupted'))
      console.log('redis ' + redis.pid)
      setInterval(() => {}, 1000)`
    const module = new URL('../../dist/platform/embedded-redis.js', import.meta.url).href
    const child = spawn(process.execPath, ['--input-type=module', '-e', script, module, dir], {
      detached: true,
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    onTestFinished(() => void child.kill('SIGKILL'))
    const pid = Number(await said(child, /redis (\d+)/))
    return { child, pid }
  }

  function said(child: ChildProcess, what: RegExp): Promise<string> {
    return new Promise((resolve, reject) => {
      let output = ''
      child.stdout?.on('data', (chunk: Buffer) => {
        output += chunk.toString()
        const found = what.exec(output)
        if (found) resolve(found[1] ?? '')
      })
      child.once('exit', () => reject(new Error(`ended before it said ${what}`)))
    })
  }

  it('takes its server along when it is killed', async () => {
    const { child, pid } = await owner()
    child.kill('SIGKILL')
    await gone(pid)
  })

  it('keeps its server through the Ctrl-C that the whole terminal gets', async () => {
    const { child, pid } = await owner()
    const heard = said(child, /(interrupted)/)
    process.kill(-(child.pid ?? 0), 'SIGINT')
    await heard
    expect(isAlive(pid)).toBe(true)
    child.kill('SIGKILL')
    await gone(pid)
  })
})
