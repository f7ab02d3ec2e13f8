/** What a session says to its supervisor: the real socket, the real command line. */
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import { describe, expect, it, onTestFinished } from 'vitest'
import { FenceLostError, UserError } from '../../src/kernel/errors.js'
import { SessionSocket } from '../../src/launch/node-session-socket.js'
import { askSupervisor } from '../../src/launch/node-socket-client.js'
import type { SocketAnswer, SocketRequest } from '../../src/launch/socket-protocol.js'
import { cleanEnv, cli } from '../support/cli.js'

function shortFolder(): string {
  const dir = mkdtempSync(join(tmpdir(), 'unstuck-s-'))
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

async function setup({ answer = () => Promise.resolve({ ok: true }) }: { answer?: () => Promise<SocketAnswer> } = {}) {
  const folder = join(shortFolder(), 's')
  const asked: SocketRequest[] = []
  const start = async (name: string) => {
    const socket = new SessionSocket({
      folder,
      name,
      answer: (request) => {
        asked.push(request)
        return answer()
      },
    })
    onTestFinished(() => socket.stop())
    await socket.start()
    return socket
  }
  const socket = await start('one')
  const env = {
    UNSTUCK_SOCKET: await socket.link('/run/a-1'),
    UNSTUCK_QUEUE: 'agents',
    UNSTUCK_JOB_ID: 'a',
    UNSTUCK_FENCE: '1',
  }
  return { folder, asked, socket, env, start }
}

const refusedBy = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => expect.unreachable('was not refused'),
    (error: unknown) => error,
  )

/** What the socket says to raw bytes. */
async function raw(path: string, ...pieces: readonly (string | Buffer)[]): Promise<unknown> {
  const client = connect(path)
  client.on('error', () => undefined)
  let text = ''
  client.on('data', (chunk: Buffer) => {
    text += chunk.toString()
  })
  for (const piece of pieces) client.write(piece)
  // Not `once`, which rejects when the other end hangs up on what is too long.
  await new Promise((resolve) => client.once('close', resolve))
  return text === '' ? undefined : JSON.parse(text)
}

const NO: SocketAnswer = { ok: false, error: "job a is not this session's any more" }

describe('unstuck beat', () => {
  it('tells the supervisor who is alive and how far it is, with neither Redis nor a config file', async () => {
    const { env, asked } = await setup()
    expect(await cli(['beat'], { env, cwd: '/' })).toEqual({ code: 0, stdout: '', stderr: '' })
    expect(await cli(['beat', '--progress', 'file 3', '--json'], { env })).toMatchObject({
      code: 0,
      stdout: '{\n  "ok": true\n}\n',
    })
    const session = { do: 'beat', queue: 'agents', job: 'a', fence: 1 }
    expect(asked).toEqual([session, { ...session, progress: 'file 3' }])
  })

  it('refuses a token that is too long, and a place that is no session, with the fix', async () => {
    const { env, asked } = await setup()
    expect(await cli(['beat', '--progress', 'x'.repeat(201)], { env })).toMatchObject({ code: 2 })
    const outside = await cli(['beat'])
    expect(outside).toMatchObject({ code: 2, stdout: '' })
    expect(outside.stderr).toBe(
      'unstuck: UNSTUCK_SOCKET: not set, so this is no session; run it inside the command of a queue with a session\n',
    )
    expect(await cli(['beat'], { env: { ...env, UNSTUCK_FENCE: '1e3' } })).toMatchObject({ code: 2 })
    expect(asked).toEqual([])
  })
})

describe('unstuck fence check', () => {
  it('D5: exits with 0 while the job is its own, and with 1 when the supervisor says no', async () => {
    const own = await setup()
    expect(await cli(['fence', 'check'], { env: own.env })).toEqual({ code: 0, stdout: '', stderr: '' })
    expect(own.asked).toEqual([{ do: 'fence', queue: 'agents', job: 'a', fence: 1 }])
    const lost = await setup({ answer: () => Promise.resolve(NO) })
    const { code, stderr } = await cli(['fence', 'check'], { env: lost.env })
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: "unstuck: job a is not this session's any more; stop, and change nothing any more\n",
    })
  })

  it('exits with 2 when nobody can say', async () => {
    const unsure = await setup({ answer: () => Promise.resolve({ ok: false, error: 'Redis does not answer', unsure: true }) })
    expect(await cli(['fence', 'check'], { env: unsure.env })).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('Redis does not answer; try again'),
    })
    await unsure.socket.stop()
    const gone = await cli(['fence', 'check'], { env: unsure.env })
    expect(gone).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/^unstuck: supervisor: cannot be asked at .*ENOENT.*; try again.*\n$/),
    })
  })
})

describe('assertFence', () => {
  it('from the library returns, or throws by what was said', async () => {
    const { env } = await setup()
    const lost = await setup({ answer: () => Promise.resolve(NO) })
    const library = pathToFileURL(resolve(import.meta.dirname, '../../dist/index.js')).href
    const code = `import { assertFence, FenceLostError, UserError } from ${JSON.stringify(library)}
      const say = (error) => console.log(error instanceof FenceLostError, error instanceof UserError, error.code)
      await assertFence().then(() => console.log('ours'), say)`
    const ask = async (env: NodeJS.ProcessEnv) =>
      (await promisify(execFile)(process.execPath, ['--input-type=module', '-e', code], { env: cleanEnv(env) })).stdout
    expect(await ask(env)).toBe('ours\n')
    expect(await ask(lost.env)).toBe('true true JOB_TAKEN\n')
    expect(await ask({})).toBe('false true SESSION_MISSING\n')
  })

  it('does not wait for ever for a supervisor that is wedged, nor believe what is no answer', async () => {
    const { env } = await setup({ answer: () => new Promise(() => undefined) })
    const path = join(shortFolder(), 'x')
    const server = createServer((socket) => socket.end('{"ok":"yes"}\n').on('error', () => undefined)).listen(path)
    onTestFinished(() => void server.close())
    await once(server, 'listening')
    for (const one of [env, { ...env, UNSTUCK_SOCKET: path }]) {
      const error = await refusedBy(askSupervisor(one, { do: 'fence' }))
      expect(error).toBeInstanceOf(UserError)
      expect(error).toMatchObject({ code: 'SESSION_UNREACHABLE' })
      expect(error).not.toBeInstanceOf(FenceLostError)
    }
  })
})

describe("the supervisor's socket", () => {
  it('lies in a folder that nobody else may enter, and is gone after a stop', async () => {
    const { folder, socket } = await setup()
    expect(statSync(folder).mode & 0o777).toBe(0o700)
    expect(readdirSync(folder)).toContain('one.sock')
    await socket.stop()
    expect(readdirSync(folder)).not.toContain('one.sock')
  })

  it.each<[string, string | Buffer]>([
    ['no JSON', 'hello\n'],
    ['JSON that is no request', '[]\n'],
    ['null', 'null\n'],
    ['another version', '{"v":2,"do":"beat","queue":"q","job":"a","fence":1}\n'],
    ['another verb', '{"v":1,"do":"__proto__","queue":"q","job":"a","fence":1}\n'],
    ['a fence that is none', '{"v":1,"do":"beat","queue":"q","job":"a","fence":1.5}\n'],
    ['no job', '{"v":1,"do":"beat","queue":"q","fence":1}\n'],
    ['a progress too long', `{"v":1,"do":"beat","queue":"q","job":"a","fence":1,"progress":"${'x'.repeat(201)}"}\n`],
    ['a line without end', Buffer.alloc(300_000, 'x')],
    ['bytes that are no text', Buffer.from([0xff, 0xfe, 0x0a])],
  ])('answers %s with what is wrong, and goes on', async (_, bytes) => {
    const { env, asked } = await setup()
    expect(await raw(env.UNSTUCK_SOCKET, bytes)).toMatchObject({
      ok: false,
      unsure: true,
      error: expect.stringContaining('not understood'),
    })
    expect(asked).toEqual([])
    await askSupervisor(env, { do: 'beat' })
  })

  it('takes a request in pieces, and drops a second one', async () => {
    const { env, asked } = await setup()
    const line = '{"v":1,"do":"beat","queue":"q","job":"ä","fence":1}\n'
    const bytes = Buffer.from(line + line)
    const cut = bytes.indexOf(0xa4)
    expect(await raw(env.UNSTUCK_SOCKET, bytes.subarray(0, cut), bytes.subarray(cut))).toEqual({ ok: true })
    expect(asked).toEqual([{ do: 'beat', queue: 'q', job: 'ä', fence: 1 }])
  })

  it('outlives clients that hang up, and hangs up on one that says nothing', async () => {
    const { env, socket } = await setup()
    for (let n = 0; n < 20; n++) {
      const client = connect(env.UNSTUCK_SOCKET)
      await once(client, 'connect')
      client.write('{"v":1')
      client.destroy()
    }
    expect(await raw(env.UNSTUCK_SOCKET)).toBeUndefined()
    await askSupervisor(env, { do: 'beat' })
    const waiting = connect(env.UNSTUCK_SOCKET)
    await once(waiting, 'connect')
    const closed = once(waiting, 'close')
    await Promise.all([socket.stop(), closed])
  })

  it('says that nobody knows when the answer fails', async () => {
    const { env } = await setup({ answer: () => Promise.reject(new Error('lost')) })
    expect(await refusedBy(askSupervisor(env, { do: 'fence' }))).toMatchObject({ code: 'SESSION_UNREACHABLE' })
  })

  it("D5: a session's link moves to the supervisor that adopts it, and its first one leaves it there", async () => {
    const { env, socket, start, folder } = await setup()
    const other = await start('two')
    expect(await other.link('/run/a-1')).toBe(env.UNSTUCK_SOCKET)
    expect(await other.link('/run/a-2')).not.toBe(env.UNSTUCK_SOCKET)
    expect(readlinkSync(env.UNSTUCK_SOCKET)).toBe('two.sock')
    await socket.unlink('/run/a-1')
    await socket.stop()
    await askSupervisor(env, { do: 'beat' })
    await other.unlink('/run/a-1')
    await other.unlink('/run/a-1')
    await other.unlink('/run/a-2')
    expect(readdirSync(folder)).toEqual(['two.sock'])
  })

  it('clears away what a killed supervisor left, and nothing of one that lives or is only just being made', async () => {
    const { folder, socket, start, env } = await setup()
    const hourAgo = new Date(Date.now() - 3_600_000)
    for (const name of ['dead', 'young']) {
      const listens = `require('node:net').createServer().listen(${JSON.stringify(join(folder, `${name}.sock`))}, () => process.kill(process.pid, 'SIGKILL'))`
      await promisify(execFile)(process.execPath, ['-e', listens]).catch(() => undefined)
    }
    for (const name of ['dead', 'one']) utimesSync(join(folder, `${name}.sock`), hourAgo, hourAgo)
    rmSync(env.UNSTUCK_SOCKET)
    symlinkSync('dead.sock', env.UNSTUCK_SOCKET)
    const other = await start('two')
    await other.unlink('/run/a-1')
    expect(readdirSync(folder).sort()).toEqual(['one.sock', 'two.sock', 'young.sock'])
    await askSupervisor({ ...env, UNSTUCK_SOCKET: socket.path }, { do: 'beat' })
  })

  it('refuses a folder that is not its own alone, with the fix', async () => {
    const dir = shortFolder()
    const startIn = (folder: string) =>
      refusedBy(new SessionSocket({ folder, name: 'x', answer: () => Promise.resolve({ ok: true }) }).start())
    mkdirSync(join(dir, 'open'))
    chmodSync(join(dir, 'open'), 0o755)
    mkdirSync(join(dir, 'own'), { mode: 0o700 })
    symlinkSync('own', join(dir, 'link'))
    writeFileSync(join(dir, 'file'), '')
    for (const [name, message] of [
      ['open', 'others may enter it; run `chmod 700` on it'],
      ['link', 'is a link'],
      ['file', 'is no folder'],
      ['none/deep', 'could not be made'],
      ['x'.repeat(100), 'set TMPDIR to a shorter folder'],
    ] as const) {
      const error = await startIn(join(dir, name))
      expect(error).toBeInstanceOf(UserError)
      expect(String(error)).toContain(message)
    }
    expect(lstatSync(join(dir, 'link')).isSymbolicLink()).toBe(true)
  })
})
