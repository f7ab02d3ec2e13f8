/** Everything that a person can get wrong: one line that names it and the fix, exit code 2, and nothing half done. */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { describe, expect, it, onTestFinished } from 'vitest'
import { type CliResult, cli, tempFolder } from '../support/cli.js'
import { freePort, startTestRedis } from '../support/redis.js'

function expectOneLine({ code, stdout, stderr }: CliResult, says: RegExp): void {
  expect(stderr).toMatch(says)
  expect(stderr).toMatch(/^unstuck: [^\n]+\n$/)
  expect(stdout).toBe('')
  expect(code).toBe(2)
}

function folderWith(config: object | string): string {
  const cwd = tempFolder()
  const text = typeof config === 'string' ? config : `export default ${JSON.stringify(config)}`
  writeFileSync(join(cwd, 'unstuck.config.mjs'), text)
  writeFileSync(join(cwd, 'handler.mjs'), 'export default () => 1')
  return cwd
}

const good = { queues: { mail: { handler: './handler.mjs', threads: 1 } } }

async function redisWithClient(args: readonly string[] = []) {
  const redis = await startTestRedis({ args })
  const client = new Redis(redis.url)
  onTestFinished(async () => {
    client.disconnect()
    await redis.stop()
  })
  return { redis, client }
}

describe('bad config', () => {
  it.each<[string, object | string, RegExp]>([
    ['an unknown key', { ...good, heartbeet: {} }, /heartbeet: unknown key; did you mean "heartbeat"\?/],
    [
      'a contradictory threshold',
      { ...good, heartbeat: { intervalMs: 3000, timeoutMs: 4000 } },
      /heartbeat\.timeoutMs: 4000 is below 2 ×/,
    ],
    [
      'a missing handler',
      { queues: { mail: { handler: './handlr.mjs' } } },
      /queues\.mail\.handler: there is no file .*handlr\.mjs; create/,
    ],
    [
      'a queue name with odd characters',
      { queues: { 'a:b {c}': { handler: './handler.mjs' } } },
      /queue name "a:b \{c\}" must be/,
    ],
    ['a hostile key', 'export default JSON.parse(\'{"__proto__": {"queues": {}}}\')', /__proto__: this name is not allowed/],
    ['a file that cannot be loaded', 'export default {', /unstuck\.config\.mjs: could not be loaded: /],
    [
      'a host without a token',
      { ...good, http: { host: '0.0.0.0' } },
      /http\.host: "0\.0\.0\.0" is reachable from other machines/,
    ],
  ])('%s is named, by every command that reads it', async (_, config, says) => {
    const cwd = folderWith(config)
    for (const command of ['config', 'supervisor', 'up']) {
      expectOneLine(await cli([command], { cwd, env: { REDIS_URL: 'redis://127.0.0.1:1' } }), says)
    }
    expect(existsSync(join(cwd, '.unstuck'))).toBe(false)
  })

  it('a config file that does not exist', async () => {
    expectOneLine(
      await cli(['status', '--config', 'no-such.mjs'], { cwd: tempFolder() }),
      /--config: there is no file .*no-such\.mjs/,
    )
  })

  it('no queue at all', async () => {
    const cwd = tempFolder()
    expectOneLine(await cli(['up'], { cwd }), /queues: none is configured; add queues\.NAME\.handler/)
    expect(existsSync(join(cwd, '.unstuck'))).toBe(false)
  })

  it('no Redis named', async () => {
    expectOneLine(await cli(['supervisor'], { cwd: folderWith(good) }), /redis\.url: .*set REDIS_URL/)
  })

  it('a demo with a config of one’s own', async () => {
    expectOneLine(
      await cli(['up', '--demo', '--config', 'unstuck.config.mjs'], { cwd: folderWith(good) }),
      /--demo: brings a config of its own/,
    )
  })
})

describe('a bad command line', () => {
  it.each<[string, string[], RegExp]>([
    ['an unknown command', ['statsu'], /unknown command 'statsu' \(Did you mean status\?\)/],
    ['an unknown option', ['status', '--jsn'], /unknown option '--jsn' \(Did you mean --json\?\)/],
    ['a missing argument', ['enqueue'], /missing required argument 'queue'/],
    ['a number that is none', ['enqueue', 'mail', '--priority', 'high'], /'high' is invalid\. It must be a whole number/],
    ['a port out of range', ['watchdog', '--port', '70000'], /'70000' is invalid\. It must be a whole number from 0 to 65535/],
    [
      'a queue that is not configured',
      ['supervisor', '--queue', 'male'],
      /queue "male": not in the config \(configured: mail\)/,
    ],
  ])('%s', async (_, args, says) => {
    expectOneLine(await cli(args, { cwd: folderWith(good), env: { REDIS_URL: 'redis://127.0.0.1:1' } }), says)
  })
})

describe('a bad Redis', () => {
  it('is not reachable', async () => {
    const env = { REDIS_URL: `redis://:s3cret@127.0.0.1:${await freePort()}` }
    const cwd = folderWith(good)
    const results = await Promise.all(
      ['supervisor', 'watchdog', 'status', 'up'].map((command) =>
        cli([command, ...(command === 'status' ? [] : ['--port', '0'])], { cwd, env }),
      ),
    )
    for (const result of results) {
      expectOneLine(
        result,
        /redis:\/\/127\.0\.0\.1:\d+: not reachable \(connect ECONNREFUSED [^)]*\); check that Redis runs there/,
      )
      expect(result.stderr).not.toContain('s3cret')
    }
  })

  it('is too old', async () => {
    const port = await oldRedis()
    for (const command of ['supervisor', 'watchdog', 'status']) {
      const result = await cli([command], { cwd: folderWith(good), env: { REDIS_URL: `redis://127.0.0.1:${port}` } })
      expectOneLine(result, /Redis 5\.0\.7 is too old; use 6\.2 or newer/)
    }
  })

  it('would drop jobs', async () => {
    const { redis, client } = await redisWithClient(['--maxmemory-policy', 'allkeys-lru'])
    const result = await cli(['enqueue', 'mail'], { cwd: folderWith(good), env: { REDIS_URL: redis.url } })
    expectOneLine(
      result,
      /maxmemory-policy is "allkeys-lru", so jobs could be dropped; run CONFIG SET maxmemory-policy noeviction/,
    )
    expect(await client.dbsize()).toBe(0)
  })
})

describe('a port in use', () => {
  it('is named by watchdog, supervisor and up, and nothing is left running', async () => {
    const { redis, client } = await redisWithClient()
    const port = await listening((socket) => socket.destroy())
    const cwd = folderWith({ ...good, supervisor: { port } })
    const env = { REDIS_URL: redis.url }
    expectOneLine(await cli(['watchdog', '--port', String(port)], { cwd, env }), new RegExp(`${port}.*in use.*--port`))
    expectOneLine(await cli(['up', '--port', String(port)], { cwd, env }), new RegExp(`${port}.*in use.*--port`))
    expectOneLine(await cli(['supervisor'], { cwd, env }), new RegExp(`${port}: something else listens there; choose another`))
    expect(await client.dbsize()).toBe(0)
  })
})

describe('bad jobs', () => {
  const deep = `${'['.repeat(100_000)}${']'.repeat(100_000)}`
  it.each<[string, string[], string, RegExp]>([
    ['data that is no JSON', ['mail', '--data', '{path: 1}'], '', /--data: not JSON .*; correct it/],
    ['a line that is no JSON', ['mail', '--file', '-'], '{"data":1}\nnope\n', /standard input line 2: not JSON/],
    ['a line with an unknown key', ['mail', '--file', '-'], '{"path":1}\n', /line 1: unknown key "path"; use data, name/],
    ['a line with a hostile key', ['mail', '--file', '-'], '{"__proto__":{"data":1}}\n', /line 1: unknown key "__proto__"/],
    ['data that is too deep', ['mail', '--file', '-'], `{"data":${deep}}\n`, /line 1: .*JSON/],
    ['a queue name with odd characters', ['a:b'], '', /the queue name "a:b" must be 1 to 100 letters/],
    ['an empty queue name', [''], '', /the queue name "" must be/],
    ['a queue name that moves the cursor', ['a\x1b[2J'], '', /the queue name "a\\u001b\[2J" must be/],
    ['a job id with a colon', ['mail', '--job-id', 'a:b'], '', /jobId "a:b" has a colon/],
    ['a job id that is a number', ['mail', '--job-id', '17'], '', /jobId "17" is a whole number/],
    ['a job id with a control character', ['mail', '--job-id', 'a\nb'], '', /jobId "a\\nb" has a control character/],
    ['an empty job id', ['mail', '--job-id', ''], '', /jobId must be a non-empty text/],
    ['an endless job id', ['mail', '--job-id', 'x'.repeat(200)], '', /jobId is longer than 160 bytes/],
    ['data and a file', ['mail', '--data', '1', '--file', '-'], '', /--data: cannot stand beside --file/],
    ['a file that is not there', ['mail', '--file', 'no-such'], '', /--file: no-such cannot be read .*; correct the path/],
    ['a folder', ['mail', '--file', '.'], '', /--file: \. is a folder/],
  ])('%s', async (_, args, input, says) => {
    // Refused before Redis is asked: there is none.
    expectOneLine(
      await cli(['enqueue', ...args], { cwd: tempFolder(), input, env: { REDIS_URL: 'redis://127.0.0.1:1' } }),
      says,
    )
  })

  it('hostile keys inside the data are data', async () => {
    const { redis, client } = await redisWithClient()
    const data = '{"__proto__":{"polluted":true},"constructor":1}'
    const { code } = await cli(['enqueue', 'mail', '--data', data, '--job-id', 'j'], {
      cwd: tempFolder(),
      env: { REDIS_URL: redis.url },
    })
    expect(code).toBe(0)
    expect(await client.hget('bull:mail:j', 'data')).toBe(data)
  })

  it('every odd byte that an id may have works', async () => {
    const { redis, client } = await redisWithClient()
    const id = 'ü 日本 "quoted" \'\\ ?*[x] {y} #%&'
    const env = { REDIS_URL: redis.url }
    expect((await cli(['enqueue', 'mail', '--job-id', id], { cwd: tempFolder(), env })).stdout).toBe(`${id}\n`)
    expect(await client.exists(`bull:mail:${id}`)).toBe(1)
    expect((await cli(['explain', 'mail', id], { cwd: tempFolder(), env })).stdout).toContain(
      'no live supervisor serves the queue',
    )
  })
})

describe('a folder in the way', () => {
  it('is no config file', async () => {
    const cwd = tempFolder()
    mkdirSync(join(cwd, 'conf'))
    expectOneLine(await cli(['config', '--config', 'conf'], { cwd }), /conf: /)
  })
})

/** @returns the port of a server of its own */
async function listening(onSocket: Parameters<typeof createServer>[1]): Promise<number> {
  const server = createServer(onSocket)
  await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready))
  onTestFinished(() => new Promise<void>((closed) => server.close(() => closed())))
  return (server.address() as AddressInfo).port
}

/** Speaks just enough of Redis' protocol to be asked for its version. */
function oldRedis(): Promise<number> {
  const info = '# Server\r\nredis_version:5.0.7\r\nredis_mode:standalone\r\n'
  return listening((socket) => {
    socket.on('error', () => undefined)
    socket.on('data', (chunk: Buffer) => {
      for (const command of chunk.toString().match(/(?<=\r\n)(info|hello|config|client|quit)(?=\r\n)/gi) ?? []) {
        const isInfo = command.toLowerCase() === 'info'
        const isHello = command.toLowerCase() === 'hello'
        socket.write(
          isInfo
            ? `$${info.length}\r\n${info}\r\n`
            : isHello
              ? '-ERR unknown command `HELLO`, with args beginning with: `3`, \r\n'
              : '+OK\r\n',
        )
      }
    })
  })
}
