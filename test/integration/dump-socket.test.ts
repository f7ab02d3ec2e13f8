/** The sentinel's own socket: what a person on the host asks without Redis. The real socket, the real command line. */
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { Worker } from 'node:worker_threads'
import { describe, expect, it, onTestFinished } from 'vitest'
import type { Dump } from '../../src/stackdump/dump.js'
import { askLocally, DumpSocket, type DumpSocketOptions } from '../../src/stackdump/node-dump-socket.js'
import { cli } from '../support/cli.js'
import { dumpOf } from '../support/dumps.js'

function setup({ take }: { take?: DumpSocketOptions['take'] } = {}) {
  const home = mkdtempSync(join(tmpdir(), 'unstuck-d-'))
  onTestFinished(() => rmSync(home, { recursive: true, force: true }))
  const folder = join(home, `unstuck-${process.getuid?.()}`)
  const asked: unknown[] = []
  const told: string[] = []
  const answer: DumpSocketOptions['take'] = (targets, deep) => {
    asked.push({ targets, deep })
    return take?.(targets, deep) ?? Promise.resolve([dumpOf()])
  }
  const start = async (supervisor = 'a', where = folder) => {
    const onError = ({ message }: Error) => void told.push(message)
    const socket = new DumpSocket({ folder: where, supervisor, take: answer, onError })
    onTestFinished(() => socket.stop())
    await socket.start()
    return socket
  }
  const ask = (supervisor = 'a', limitMs = 5000) => askLocally(folder, supervisor, 'all', false, limitMs)
  const run = (...args: string[]) => cli(['dump', ...args], { env: { TMPDIR: home }, cwd: '/' })
  return { home, folder, asked, told, start, ask, run }
}

/** What the socket says to raw bytes. */
async function raw(path: string, bytes: string | Buffer): Promise<unknown> {
  const client = connect(path)
  client.on('error', () => undefined)
  let text = ''
  client.on('data', (chunk: Buffer) => {
    text += chunk.toString()
  })
  client.write(bytes)
  await new Promise((resolve) => client.once('close', resolve))
  return text === '' ? undefined : JSON.parse(text)
}

/** A socket that a killed process left. */
async function leaveDead(path: string): Promise<void> {
  const listens = `require('node:net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`
  await promisify(execFile)(process.execPath, ['-e', listens]).catch(() => undefined)
}

const kept = (error: unknown): unknown => error

describe('unstuck dump --local', () => {
  it('shows what the sentinel took, with neither Redis nor a config file', async () => {
    const { start, run, asked } = setup()
    await start()
    const shown = await run('a', '--local')
    expect(shown).toMatchObject({ code: 0, stderr: '' })
    expect(shown.stdout).toMatch(/^a, thread 1 of img: running JavaScript\n.*\n {2}stack:\n {4}at charge \(/)
    const json = await run('a', '--local', '--thread', 'img:1', '--deep', '--json')
    expect(JSON.parse(json.stdout)).toEqual([dumpOf()])
    expect(asked).toEqual([
      { targets: 'all', deep: false },
      { targets: [{ queue: 'img', thread: 1 }], deep: true },
    ])
  })

  it('says where to run it when nobody listens, and who does', async () => {
    const { start, run } = setup()
    expect(await run('a', '--local')).toMatchObject({
      code: 2,
      stdout: '',
      stderr: expect.stringMatching(
        /^unstuck: supervisor:a: its sentinel cannot be asked in [^\n]+; run it on the host .+ \(there is none here\)\n$/,
      ),
    })
    await start('b')
    expect((await run('a', '--local')).stderr).toMatch(/ENOENT.*\(b here\)\n$/)
    expect(await run('../a', '--local')).toMatchObject({ code: 2, stderr: expect.stringContaining('a name has 1 to 64') })
  })

  it('says which thread is not there, and what went wrong over there', async () => {
    const none = setup({ take: () => Promise.resolve([]) })
    await none.start()
    expect(await none.run('a', '--local', '--thread', 'img:9')).toEqual({
      code: 1,
      stdout: '',
      stderr: 'unstuck: supervisor:a: it has no thread img:9; leave it out to see those that there are\n',
    })
    expect(await none.run('a', '--local')).toMatchObject({ code: 1, stdout: 'no dump\n' })
    const broken = setup({ take: () => Promise.reject(new Error('out of files')) })
    await broken.start()
    expect(await broken.run('a', '--local')).toMatchObject({
      code: 1,
      stderr: 'unstuck: supervisor:a: no dump could be taken: out of files; try again\n',
    })
  })
})

describe('the dump socket', () => {
  it('is for its own user alone, and gone after a stop', async () => {
    const { folder, start, told } = setup()
    const socket = await start()
    expect(statSync(folder).mode & 0o777).toBe(0o700)
    expect(statSync(socket.path).mode & 0o777).toBe(0o600)
    await Promise.all([socket.stop(), socket.stop()])
    expect(readdirSync(folder)).toEqual([])
    expect(told).toEqual([])
  })

  it('takes the place of one whose process died, whatever its age, and clears away older ones', async () => {
    const { folder, start, ask, told } = setup()
    mkdirSync(folder, { mode: 0o700 })
    for (const name of ['a', 'b', 'young']) await leaveDead(join(folder, `${name}.dump`))
    const hourAgo = new Date(Date.now() - 3_600_000)
    utimesSync(join(folder, 'b.dump'), hourAgo, hourAgo)
    await start()
    expect(await ask()).toEqual([dumpOf()])
    expect(readdirSync(folder).sort()).toEqual(['a.dump', 'young.dump'])
    expect(told).toEqual([])
  })

  it('leaves the one of a living supervisor alone, tells so, and goes on', async () => {
    const { start, ask, told } = setup()
    await start()
    const second = await start()
    expect(second.state).toBe('running')
    expect(told).toEqual([
      expect.stringMatching(/^no `unstuck dump --local` of this supervisor: .+a living supervisor of the same name/),
    ])
    await second.stop()
    expect(await ask()).toEqual([dumpOf()])
  })

  it('tells and does not throw when there is no place for it', async () => {
    const { home, start, told } = setup()
    mkdirSync(join(home, 'open'))
    chmodSync(join(home, 'open'), 0o755)
    writeFileSync(join(home, 'file'), '')
    const long = 'x'.repeat(100)
    for (const name of ['open', 'file', join('none', 'deep'), long]) await start('a', join(home, name))
    const why = [/others may enter it/, /is no folder/, /could not be made/, /too long/]
    expect(told).toEqual(why.map((pattern) => expect.stringMatching(pattern)))
  })

  it.each<[string, string | Buffer]>([
    ['no JSON', 'hello\n'],
    ['no request', '[]\n'],
    ['another version', '{"v":2,"do":"dump","targets":"all"}\n'],
    ['another verb', '{"v":1,"do":"kill","targets":"all"}\n'],
    ['no targets', '{"v":1,"do":"dump","targets":[]}\n'],
    ['a thread that is none', '{"v":1,"do":"dump","targets":[{"queue":"q","thread":"1"}]}\n'],
    ['a line without end', Buffer.alloc(300_000, 'x')],
    ['bytes that are no text', Buffer.from([0xff, 0xfe, 0x0a])],
  ])('answers %s with what is wrong, and goes on', async (_, bytes) => {
    const { start, ask, asked } = setup()
    const { path } = await start()
    expect(await raw(path, bytes)).toMatchObject({ ok: false, error: expect.stringContaining('not understood') })
    expect(asked).toEqual([])
    expect(await ask()).toHaveLength(1)
  })

  it('outlives clients that hang up, and hangs up on those that wait when it stops', async () => {
    const { start, ask } = setup()
    const socket = await start()
    for (let n = 0; n < 40; n++) {
      const client = connect(socket.path)
      await once(client, 'connect')
      client.write('{"v":1')
      client.destroy()
    }
    expect(await ask()).toHaveLength(1)
    const waiting = connect(socket.path)
    await once(waiting, 'connect')
    await Promise.all([once(waiting, 'close'), socket.stop()])
  })

  it('carries the dumps of many threads whole', async () => {
    const notes = ['ä'.repeat(20_000)]
    const dumps: Dump[] = Array.from({ length: 100 }, (_, index) => dumpOf({ id: `d-${index}`, notes }))
    const { start, ask } = setup({ take: () => Promise.resolve(dumps) })
    await start()
    expect(await ask()).toEqual(dumps)
  })

  it('is not waited for without an end', async () => {
    const { start, ask } = setup({ take: () => new Promise(() => undefined) })
    await start()
    expect(await ask('a', 50).catch(kept)).toMatchObject({
      code: 'SENTINEL_UNREACHABLE',
      message: expect.stringContaining('no answer within 0.05 s'),
    })
  })

  it('leaves room for a successor when its thread is ended without a stop', async () => {
    const { folder, start, ask, told } = setup()
    mkdirSync(folder, { mode: 0o700 })
    const path = join(folder, 'a.dump')
    const code = `require('node:net').createServer().listen(${JSON.stringify(path)}, () => require('node:worker_threads').parentPort.postMessage('up'))`
    const worker = new Worker(code, { eval: true })
    await once(worker, 'message')
    expect(existsSync(path)).toBe(true)
    await worker.terminate()
    await start()
    expect(await ask()).toHaveLength(1)
    expect(told).toEqual([])
  })
})
