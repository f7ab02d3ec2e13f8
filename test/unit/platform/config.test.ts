import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import fc from 'fast-check'
import { describe, expect, it, onTestFinished } from 'vitest'
import { UserError } from '../../../src/kernel/errors.js'
import { slotsOf } from '../../../src/platform/config.js'
import { loadConfig } from '../../../src/platform/config-load.js'
import { describeConfig, parseConfig, queueNameProblem } from '../../../src/platform/config-parse.js'
import { type ConfigInput, configKeys, defineConfig } from '../../../src/platform/config-schema.js'

function setup() {
  const dir = mkdtempSync(join(tmpdir(), 'unstuck-config-'))
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }))
  const write = (name: string, text: string) => writeFileSync(join(dir, name), text)
  write('images.mjs', 'export default async () => {}\n')
  const load = (rest: { file?: string; env?: Record<string, string>; flags?: object } = {}) =>
    loadConfig({ cwd: dir, env: {}, ...rest })
  return { dir, write, load }
}

const parse = (input: unknown) => parseConfig(input, { baseDir: '/app', handlersMustExist: false })

function refusalOf(input: unknown): string {
  try {
    parse(input)
  } catch (error) {
    if (!(error instanceof UserError)) throw error
    expect(error.code).toBe('CONFIG_INVALID')
    expect(error.message).not.toContain('\n')
    return error.message
  }
  return expect.unreachable(`was accepted: ${JSON.stringify(input)}`)
}

async function refusal(promise: Promise<unknown>): Promise<UserError> {
  const error: unknown = await promise.then(
    () => expect.unreachable('was not refused'),
    (thrown: unknown) => thrown,
  )
  if (!(error instanceof UserError)) throw error
  expect(error.message).not.toContain('\n')
  return error
}

describe('config defaults', () => {
  it('fills in everything from nothing', () => {
    const config = parse({})
    expect(config.redis).toEqual({ url: undefined, prefix: '{unstuck}', bullPrefix: 'bull' })
    expect(config.loops).toEqual({ pollIntervalMs: 5000, pollStaleThresholdMs: 60_000, startGraceMs: 30_000 })
    expect(config.heartbeat).toEqual({ intervalMs: 1000, timeoutMs: 5000, loopBlockedMs: 5000, threadBlockedMs: 10_000 })
    expect(config.http).toEqual({ host: '127.0.0.1', port: 7373, token: undefined, readToken: undefined, openMetrics: false })
    expect(config.supervisor).toEqual({
      name: undefined,
      group: undefined,
      host: '127.0.0.1',
      port: 7374,
      drainMs: 30_000,
      runtimeDir: join(process.cwd(), '.unstuck/run'),
    })
  })

  it('completes a session, with paths beside the config file and a name for PATH as it is', () => {
    const { a, b } = parse({
      queues: {
        a: { session: { command: 'claude' } },
        b: {
          session: { command: './agent.sh', workspace: { git: '..', base: 'main' }, env: { HOME: true }, keep: 'failed' },
          concurrency: 7,
        },
      },
    }).queues
    expect(a?.handler).toBeUndefined()
    expect(a?.session).toEqual({
      command: 'claude',
      args: [],
      env: {},
      workspace: { git: undefined, base: undefined },
      keep: 'never',
      tmux: false,
      graceMs: 10_000,
      logBytes: 1_048_576,
      permanentExitCodes: [],
    })
    expect(b?.session).toMatchObject({
      command: '/app/agent.sh',
      workspace: { git: '/', base: 'main' },
      env: { HOME: true },
      keep: 'failed',
    })
    expect(b && slotsOf(b)).toBe(7)
    const threads = parse({ queues: { q: { handler: 'x', threads: 3, jobsPerThread: 5 } } }).queues['q']
    expect(threads && slotsOf(threads)).toBe(15)
  })

  it('puts the runtime folder into the working folder, not beside the config file', async () => {
    const { dir, write } = setup()
    mkdirSync(join(dir, 'etc'))
    write('etc/unstuck.json', '{"supervisor":{"runtimeDir":"run"}}')
    const load = (env: Record<string, string>) => loadConfig({ cwd: dir, file: 'etc/unstuck.json', env })
    expect((await load({})).supervisor.runtimeDir).toBe(join(dir, 'run'))
    expect((await load({ UNSTUCK_RUNTIME_DIR: '/var/run/u' })).supervisor.runtimeDir).toBe('/var/run/u')
  })

  it('gives each queue its own', () => {
    expect(parse({ queues: { images: { handler: 'images.mjs' } } }).queues['images']).toMatchObject({
      handler: '/app/images.mjs',
      threads: availableParallelism(),
      jobsPerThread: 1,
      attempts: { max: 8, backoffMs: [30_000, 60_000, 120_000, 300_000, 600_000], jitter: 0.2 },
      silentAfterMs: 300_000,
      notMovingAfterMs: 120_000,
      lockDurationMs: 30_000,
      onStuck: 'report',
    })
  })

  it('A5 the stale threshold follows the interval until one is set, and not moving follows the threshold', () => {
    const handler = 'x.mjs'
    const slow = parse({ loops: { pollIntervalMs: 20_000 }, queues: { q: { handler } } })
    expect(slow.loops.pollStaleThresholdMs).toBe(200_000)
    expect(slow.queues['q']?.notMovingAfterMs).toBe(400_000)
    expect(parse({ loops: { pollIntervalMs: 1000 } }).loops.pollStaleThresholdMs).toBe(60_000)
    const explicit = parse({ loops: { pollIntervalMs: 20_000, pollStaleThresholdMs: 50_000 } })
    expect(explicit.loops.pollStaleThresholdMs).toBe(50_000)
  })

  it('cannot be changed once it is in force', () => {
    const config = parse({ queues: { q: { handler: 'x.mjs' } } })
    expect(() => Reflect.set(config.loops, 'pollIntervalMs', 1)).not.toThrow()
    expect(config.loops.pollIntervalMs).toBe(5000)
    expect(Object.isFrozen(config.queues['q']?.attempts.backoffMs)).toBe(true)
  })

  it('takes thresholds short enough for a demonstration', () => {
    const input: ConfigInput = {
      queues: {
        q: { handler: 'x.mjs', silentAfterMs: 500, lockDurationMs: 1000, noWorkerAfterMs: 500, notMovingAfterMs: 2500 },
      },
      loops: { pollIntervalMs: 1000, pollStaleThresholdMs: 2000, startGraceMs: 500 },
      heartbeat: { intervalMs: 100, timeoutMs: 200, loopBlockedMs: 500, threadBlockedMs: 500 },
      watchdog: { intervalMs: 50, redisUnreachableAfterMs: 100 },
    }
    expect(parse(defineConfig(input)).watchdog.intervalMs).toBe(50)
  })
})

describe('a config that is refused', () => {
  it.each<[string, unknown, string]>([
    ['an unknown top key', { queue: {} }, 'queue: unknown key; did you mean "queues"?'],
    [
      'a misspelt key of a queue',
      { queues: { img: { handlr: 'x' } } },
      'queues.img.handlr: unknown key; did you mean "handler"?',
    ],
    [
      'a misspelt key below',
      { queues: { a: { attempts: { maximum: 1 } } } },
      'queues.a.attempts.maximum: unknown key; remove it',
    ],
    ['another case', { log: { Level: 'info' } }, 'log.Level: unknown key; did you mean "level"?'],
    ['a text for a number', { http: { port: 'abc' } }, 'http.port: must be a number, not "abc"'],
    ['a fraction', { http: { port: 1.5 } }, 'http.port: must be a whole number, not 1.5'],
    ['a port out of range', { http: { port: 65_536 } }, 'http.port: must be at most 65535, not 65536'],
    ['a negative port', { supervisor: { port: -1 } }, 'supervisor.port: must be at least 0, not -1'],
    ['a section that is none', { loops: 5 }, 'loops: must be an object of keys and values, not 5'],
    ['no object', 'x', 'config: must be an object of keys and values, not "x"'],
    ['a word that is not offered', { log: { format: 'xml' } }, 'log.format: must be "json" or "pretty", not "xml"'],
    ['an interval too short', { loops: { pollIntervalMs: 999 } }, 'loops.pollIntervalMs: must be at least 1000, not 999'],
    ['an interval too long', { loops: { pollIntervalMs: 60_001 } }, 'loops.pollIntervalMs: must be at most 60000, not 60001'],
    ['a watchdog that looks too rarely', { watchdog: { intervalMs: 1001 } }, 'watchdog.intervalMs: must be at most 1000'],
    ['a timer that Node cannot set', { supervisor: { drainMs: 2 ** 31 } }, 'supervisor.drainMs: must be at most 2147483647'],
    ['a name with blanks', { supervisor: { name: 'my box' } }, 'supervisor.name: must be 1 to 64 letters'],
    [
      'no waits',
      { queues: { a: { handler: 'x', attempts: { backoffMs: [] } } } },
      'queues.a.attempts.backoffMs: must not be empty',
    ],
    [
      'a wrong wait',
      { queues: { a: { handler: 'x', attempts: { backoffMs: ['1s'] } } } },
      'queues.a.attempts.backoffMs.0: must be a number',
    ],
    [
      'a queue with neither a handler nor a session',
      { queues: { a: {} } },
      'queues.a.handler: missing; name the module whose default export runs a job, or a session',
    ],
    [
      'a queue with both',
      { queues: { a: { handler: 'x', session: { command: 'x' } } } },
      'queues.a: has a handler and a session; keep the one that runs its jobs',
    ],
    ['a queue that is a text', { queues: { a: 'x.mjs' } }, 'queues.a: must be an object of keys and values, not "x.mjs"'],
    ['a colon in a queue name', { queues: { 'a:b': { handler: 'x' } } }, 'queues: the queue name "a:b" must be'],
  ])('%s', (_, input, message) => {
    expect(refusalOf(input)).toContain(message)
  })

  it.each<[string, ConfigInput, string]>([
    [
      'A5 a stale threshold below two intervals',
      { loops: { pollIntervalMs: 5000, pollStaleThresholdMs: 9999 } },
      'loops.pollStaleThresholdMs: 9999 is below 2 × loops.pollIntervalMs (10000); raise it to 10000 or more',
    ],
    ['a timeout below two beats', { heartbeat: { intervalMs: 1000, timeoutMs: 1999 } }, 'heartbeat.timeoutMs: 1999 is below'],
    [
      'unreachable below two looks',
      { watchdog: { redisUnreachableAfterMs: 1999 } },
      'watchdog.redisUnreachableAfterMs: 1999 is below',
    ],
    ['gone before dead', { watchdog: { goneAfterMs: 4999 } }, 'watchdog.goneAfterMs: 4999 is below heartbeat.timeoutMs'],
    [
      'not moving within the stale threshold',
      { queues: { q: { handler: 'x', notMovingAfterMs: 60_000 } } },
      'queues.q.notMovingAfterMs: 60000 must exceed loops.pollStaleThresholdMs (60000)',
    ],
    ['a public host without a token', { http: { host: '0.0.0.0' } }, 'http.host: "0.0.0.0" is reachable from other machines'],
    ['a read token alone', { http: { readToken: 'r' } }, 'http.readToken: http.token is not set'],
    [
      'one token for both',
      { http: { token: 't', readToken: 't' } },
      'http.readToken: is http.token; give the two different values',
    ],
    ['one prefix for both', { redis: { prefix: 'bull' } }, 'redis.prefix: "bull" is also redis.bullPrefix'],
  ])('%s', (_, input, message) => {
    expect(refusalOf(input)).toContain(message)
  })

  it.each<[string, unknown, string]>([
    ['no command', { args: [] }, '.command: must be a text'],
    ['an empty command', { command: '' }, '.command: must be a path without control characters, not ""'],
    ['a NUL in the command', { command: 'a\0' }, '.command: must be a path without control characters'],
    [
      'a misspelt key',
      { command: 'x', workspace: { repo: '.', bas: 'b' } },
      '.workspace.bas: unknown key; did you mean "base"?',
    ],
    ['a NUL in an argument', { command: 'x', args: ['a\0'] }, '.args.0: must not hold a NUL'],
    ['an argument that is a number', { command: 'x', args: [1] }, '.args.0: must be a text, not 1'],
    ['a variable of ours', { command: 'x', env: { UNSTUCK_FENCE: '1' } }, '.env.UNSTUCK_FENCE: names that begin with UNSTUCK_'],
    ['a variable that is none', { command: 'x', env: { 'a=b': '1' } }, '.env.a=b: is no name of a variable'],
    [
      'a base that git takes for an option',
      { command: 'x', workspace: { git: '.', base: '--upload-pack=x' } },
      '.workspace.base: must not be empty, begin with "-"',
    ],
    ['a NUL in the base', { command: 'x', workspace: { git: '.', base: 'a\0' } }, '.workspace.base: must not'],
    [
      'a base of nothing',
      { command: 'x', workspace: { base: 'main' } },
      '.workspace.base: there is no repository to take it from',
    ],
    [
      'a folder kept in another way',
      { command: 'x', keep: 'yes' },
      '.keep: must be "never" or "failed" or "always", not "yes"',
    ],
    ['a log too small', { command: 'x', logBytes: 4095 }, '.logBytes: must be at least 4096, not 4095'],
    ['exit code 0', { command: 'x', permanentExitCodes: [0] }, '.permanentExitCodes.0: must be at least 1, not 0'],
    ['exit code 256', { command: 'x', permanentExitCodes: [256] }, '.permanentExitCodes.0: must be at most 255, not 256'],
    ['a command line', 'make test', ': must be an object of keys and values, not "make test"'],
  ])('a session with %s', (_, session, message) => {
    expect(refusalOf({ queues: { a: { session } } })).toContain(`queues.a.session${message}`)
  })

  it('exactly at a limit is fine', () => {
    parse({ loops: { pollIntervalMs: 5000, pollStaleThresholdMs: 10_000 } })
    parse({ heartbeat: { intervalMs: 1000, timeoutMs: 2000 } })
    parse({ watchdog: { redisUnreachableAfterMs: 2000, goneAfterMs: 5000 } })
    parse({ queues: { q: { handler: 'x', notMovingAfterMs: 60_001 } } })
    parse({ http: { host: '0.0.0.0', token: 'secret' } })
    parse({ http: { host: '::1' } })
    parse({ queues: { q: { session: { command: 'x', logBytes: 4096, permanentExitCodes: [1, 255] } } } })
  })

  it('names everything that is wrong at once', () => {
    const message = refusalOf({ http: { port: 'x', hots: '' }, log: { level: 'loud' } })
    expect(message.split('; ').length).toBeGreaterThanOrEqual(3)
    expect(message).toContain('did you mean "host"?')
  })

  it('shows no secret, however wrong it is', () => {
    const message = refusalOf({
      redis: { url: 'http://:hunter2@x' },
      http: { token: 'hunter2 two' },
      watchdog: { deadmanUrl: 'hunter2' },
      queues: { a: { session: { command: 'x', env: { TOKEN: ['hunter2'], 'A B': 'hunter2', NUL: 'hunter2\0' } } } },
    })
    expect(message).toContain('queues.a.session.env.TOKEN: must be a text without NUL, or true')
    expect(message).not.toContain('hunter2')
    expect(message).toContain('redis.url: must be an address like redis://host:6379')
  })

  it('E4 keys that reach a prototype are refused at every depth and change nothing', () => {
    for (const json of ['{"__proto__":{"x":1}}', '{"queues":{"__proto__":{"handler":"x"}}}', '{"http":{"constructor":{}}}']) {
      expect(refusalOf(JSON.parse(json))).toContain('this name is not allowed')
    }
    expect(Reflect.get({}, 'x')).toBeUndefined()
  })

  it('E4 whatever is given, it is either accepted or refused by name in one line', () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.constantFrom(...configKeys().map(({ key }) => key)), (value, key) => {
        const path = key.replace('NAME', 'q').split('.')
        const input = path.reduceRight<unknown>((inner, name) => ({ [name]: inner }), value)
        try {
          parse(input)
        } catch (error) {
          expect(error).toBeInstanceOf(UserError)
          expect(String(error)).not.toContain('\n')
        }
      }),
    )
  })
})

describe('queue names', () => {
  it('are letters, digits, dots, underscores and hyphens', () => {
    for (const name of ['images', 'a', 'a.b-c_d9', 'x'.repeat(100)]) expect(queueNameProblem(name)).toBeUndefined()
    for (const name of ['', 'a:b', '{a}', 'a b', 'ä', 'a\n', 'x'.repeat(101)])
      expect(queueNameProblem(name)).toContain('rename the queue')
  })
})

describe('handlers', () => {
  it('are found beside the config file, by absolute path and by file URL', async () => {
    const { dir, write, load } = setup()
    mkdirSync(join(dir, 'etc'))
    write('etc/unstuck.json', '{"queues":{"a":{"handler":"../images.mjs"}}}')
    expect((await load({ file: 'etc/unstuck.json' })).queues['a']?.handler).toBe(join(dir, 'images.mjs'))
    for (const handler of [
      join(dir, 'images.mjs'),
      pathToFileURL(join(dir, 'images.mjs')),
      pathToFileURL(join(dir, 'images.mjs')).href,
    ]) {
      const config = parseConfig({ queues: { a: { handler } } }, { baseDir: '/' })
      expect(config.queues['a']?.handler).toBe(join(dir, 'images.mjs'))
    }
  })

  it('that do not exist are named with queue, path and fix', async () => {
    const { dir, load } = setup()
    const missing = await refusal(load({ flags: { queues: { a: { handler: 'nothing.mjs' } } } }))
    expect(missing.code).toBe('HANDLER_NOT_FOUND')
    expect(missing.message).toBe(
      `queues.a.handler: there is no file ${join(dir, 'nothing.mjs')}; create it or correct the path`,
    )
    const near = await refusal(load({ flags: { queues: { a: { handler: './images' } } } }))
    expect(near.message).toContain(`did you mean "${join(dir, 'images.mjs')}"?`)
    const folder = await refusal(load({ flags: { queues: { a: { handler: '.' } } } }))
    expect(folder.code).toBe('HANDLER_NOT_FOUND')
  })

  it('need not exist where no jobs run', () => {
    parseConfig({ queues: { a: { handler: 'nothing.mjs' } } }, { baseDir: '/', handlersMustExist: false })
  })
})

describe('config sources', () => {
  it('a flag wins over the environment, that over the file, that over the default', async () => {
    const { write, load } = setup()
    write('unstuck.config.mjs', 'export default { http: { port: 1 }, loops: { pollIntervalMs: 7000 } }')
    expect((await load()).http.port).toBe(1)
    expect((await load({ env: { UNSTUCK_PORT: '2' } })).http.port).toBe(2)
    const all = await load({ env: { UNSTUCK_PORT: '2' }, flags: { http: { port: 3, host: undefined } } })
    expect(all.http).toMatchObject({ port: 3, host: '127.0.0.1' })
    expect(all.loops.pollIntervalMs).toBe(7000)
  })

  it('every variable reaches its key', async () => {
    const { load } = setup()
    const samples = { number: '1000', boolean: 'false', text: 'debug', list: '', object: '' }
    for (const { key, env, kind } of configKeys()) {
      for (const name of env) {
        const value =
          {
            'redis.url': 'redis://h:1',
            'watchdog.deadmanUrl': 'https://h/x',
            'log.format': 'json',
            'supervisor.runtimeDir': '/run/unstuck',
          }[key] ?? samples[kind]
        const flags = { queues: { q: { handler: 'images.mjs' } }, ...(key === 'http.host' ? { http: { token: 't' } } : {}) }
        const config = await load({ env: { [name]: key === 'heartbeat.intervalMs' ? '500' : value }, flags }).catch(
          (error: Error) => error,
        )
        const reached = key
          .replace('NAME', 'q')
          .split('.')
          .reduce<unknown>((at, part) => Reflect.get(Object(at), part), config)
        if (config instanceof Error) expect(config.message).toContain(key)
        else expect(String(reached)).toBe(key === 'heartbeat.intervalMs' ? '500' : value)
      }
    }
  })

  it('a supervisor listens where the watchdog does unless told otherwise, and anywhere without a token', async () => {
    const { load } = setup()
    expect((await load({ env: { UNSTUCK_HOST: '127.0.0.2' } })).supervisor.host).toBe('127.0.0.2')
    const { supervisor, http } = await load({ env: { UNSTUCK_SUPERVISOR_HOST: '0.0.0.0' } })
    expect([supervisor.host, http.host, http.token]).toEqual(['0.0.0.0', '127.0.0.1', undefined])
  })

  it('variables of queues apply to every queue, over what the file says', async () => {
    const { write, load } = setup()
    write(
      'unstuck.config.mjs',
      `export default { queues: { a: { handler: 'images.mjs', threads: 9 }, 'b.c': { handler: 'images.mjs' } } }`,
    )
    const { queues } = await load({ env: { UNSTUCK_THREADS: '3', UNSTUCK_JOBS_PER_THREAD: '50' } })
    expect(queues['a']).toMatchObject({ threads: 3, jobsPerThread: 50 })
    expect(queues['b.c']).toMatchObject({ threads: 3, jobsPerThread: 50 })
  })

  it('a wrong variable is named', async () => {
    const { write, load } = setup()
    write('unstuck.config.json', '{"queues":{"a":{"handler":"images.mjs"}}}')
    const port = await refusal(load({ env: { UNSTUCK_PORT: 'abc' } }))
    expect(port.message).toBe('http.port (from UNSTUCK_PORT): must be a number, not "abc"')
    const threads = await refusal(load({ env: { UNSTUCK_THREADS: '0' } }))
    expect(threads.message).toBe('queues.a.threads (from UNSTUCK_THREADS): must be at least 1, not 0')
    const flag = await refusal(load({ env: { UNSTUCK_PORT: '1' }, flags: { http: { port: -1 } } }))
    expect(flag.message).toBe('http.port: must be at least 0, not -1')
  })

  it('an empty variable is not set', async () => {
    const { load } = setup()
    expect((await load({ env: { UNSTUCK_PORT: '', UNSTUCK_TOKEN: ' ' } })).http).toMatchObject({ port: 7373, token: undefined })
  })

  it('secrets come from files too, trimmed', async () => {
    const { dir, write, load } = setup()
    write('url', 'rediss://:pw@cache:6380\n')
    write('token', ' t0ken \n')
    write('read', 'r3ad\n')
    write('empty', '\n')
    const env = {
      REDIS_URL_FILE: join(dir, 'url'),
      UNSTUCK_TOKEN_FILE: join(dir, 'token'),
      UNSTUCK_READ_TOKEN_FILE: join(dir, 'read'),
    }
    const config = await load({ env })
    expect(config.redis.url).toBe('rediss://:pw@cache:6380')
    expect(config.http).toMatchObject({ token: 't0ken', readToken: 'r3ad', openMetrics: false })
    expect((await load({ env: { ...env, UNSTUCK_OPEN_METRICS: '1' } })).http.openMetrics).toBe(true)
    expect((await load({ env: { ...env, UNSTUCK_REDIS_URL: 'redis://other' } })).redis.url).toBe('redis://other')
    expect((await refusal(load({ env: { UNSTUCK_TOKEN_FILE: join(dir, 'none') } }))).message).toContain('UNSTUCK_TOKEN_FILE: ')
    expect((await refusal(load({ env: { UNSTUCK_TOKEN_FILE: join(dir, 'empty') } }))).message).toContain('is empty')
  })

  it('a file that is named must exist; without a name there may be none', async () => {
    const { load } = setup()
    expect((await load()).queues).toEqual({})
    expect((await refusal(load({ file: 'my.config.mjs' }))).code).toBe('CONFIG_NOT_FOUND')
  })

  it.each([
    ['throws.mjs', '\nthrow new Error("no\\nluck")', /throws\.mjs: could not be loaded: no luck, line 2/],
    ['syntax.mjs', 'export default {\n  a: ,\n}', /syntax\.mjs: could not be loaded: ./],
    ['nothing.mjs', 'export const a = 1', /nothing\.mjs: does not give an object; write/],
    ['list.json', '[]', /list\.json: does not give an object/],
    ['bad.json', '{\n  "http": {"port": }\n}', /bad\.json: Unexpected token '}' at line 2, column 20/],
    ['cut.json', '{"http": ', /cut\.json: Unexpected end of JSON input at line 1, column 10/],
    ['comma.json', '{\n  "a": 1,\n}', /comma\.json: Expected double-quoted property name at line 3, column 1/],
    ['string.json', '{"a\n": 1}', /string\.json: Bad control character in string literal at line 1, column 4/],
  ])('a file that is not one is named with the reason: %s', async (name, text, message) => {
    const { write, load } = setup()
    write(name, text)
    const error = await refusal(load({ file: name }))
    expect(error.code).toBe('CONFIG_INVALID')
    expect(error.message).toMatch(message)
  })
})

describe('describeConfig', () => {
  it('shows what is in force and hides every secret', () => {
    const shown = JSON.stringify(
      describeConfig(
        parse({
          redis: { url: 'redis://me:hunter2@cache:1/3' },
          http: { token: 'hunter2', readToken: 'hunter22' },
          watchdog: { deadmanUrl: 'https://hc.example/hunter2' },
          queues: { a: { session: { command: 'x', env: { TOKEN: 'hunter2', HOME: true } } } },
        }),
      ),
    )
    expect(shown).not.toContain('hunter2')
    expect(shown).toContain('redis://cache:1/3')
    expect(shown).toContain('"pollIntervalMs":5000')
    expect(shown).toContain('"env":{"TOKEN":"(hidden)","HOME":true}')
  })
})

describe('configKeys', () => {
  it('lists every key with its variables and default', () => {
    const keys = new Map(configKeys().map((entry) => [entry.key, entry]))
    expect(keys.get('queues.NAME.threads')).toMatchObject({ env: ['UNSTUCK_THREADS'], default: 'cores' })
    expect(keys.get('heartbeat.timeoutMs')).toMatchObject({ env: ['UNSTUCK_HEARTBEAT_TIMEOUT_MS'], default: '5000' })
    expect(keys.get('queues.NAME.attempts.backoffMs')?.default).toBe('[30000,60000,120000,300000,600000]')
    expect(keys.get('http.token')).toMatchObject({ secret: true, default: 'none' })
    expect(keys.get('queues.NAME.session.env')).toMatchObject({ secret: true, default: '{}' })
    expect(keys.get('queues.NAME.session.workspace.git')?.default).toBe('none: a fresh folder')
    expect(keys.size).toBe(60)
  })
})
