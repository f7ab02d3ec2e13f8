/** Sessions in real processes: what they are given, what they leave, and that they are gone when they are to be. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { describe, expect, it, onTestFinished } from 'vitest'
import { ChildSessions } from '../../src/launch/child-session.js'
import { LaunchError, type ProcessId, type SessionProcess, type SessionSpec } from '../../src/launch/session.js'
import { until } from '../support/processes.js'

const PARENT = fileURLToPath(new URL('../fixtures/session-parent.ts', import.meta.url))
const ENV = { PATH: process.env['PATH'] ?? '/usr/bin:/bin' }
/** Ends only by KILL. */
const STUBBORN = "trap '' TERM; echo up; while :; do sleep 1; done"

function setup() {
  const dir = mkdtempSync(join(tmpdir(), 'unstuck-sessions-'))
  const sessions = new ChildSessions()
  const started: { readonly id: ProcessId }[] = []
  let count = 0
  onTestFinished(async () => {
    await Promise.all(started.map(({ id }) => sessions.end(id, 0)))
    rmSync(dir, { recursive: true, force: true })
  })
  const specOf = (command: string, args: readonly string[], more: Partial<SessionSpec> = {}): SessionSpec => ({
    folder: join(dir, `session-${count++}`),
    cwd: dir,
    command,
    args,
    env: ENV,
    input: '{}',
    logBytes: 1024 * 1024,
    lostGraceMs: 300,
    survives: false,
    ...more,
  })
  const start = async (spec: SessionSpec): Promise<SessionProcess & { readonly folder: string }> => {
    const session = await sessions.spawn(spec)
    started.push(session)
    return {
      id: session.id,
      ended: session.ended,
      release: () => session.release(),
      term: () => session.term(),
      kill: () => session.kill(),
      folder: spec.folder,
    }
  }
  const tail = (folder: string) => sessions.tail(folder, 64 * 1024)
  return {
    dir,
    sessions,
    specOf,
    start,
    tail,
    /** To be ended with the test. */
    known: (id: ProcessId) => void started.push({ id }),
    run: (script: string, more: Partial<SessionSpec> = {}) => start(specOf('/bin/sh', ['-c', script], more)),
    /** Resolves with the output when it holds this. */
    says: (folder: string, text: string) =>
      until(
        () => tail(folder),
        (output) => output.includes(text),
      ),
  }
}

/** The members of a group that are no zombies. */
function membersOf(group: number): string[] {
  const { stdout } = spawnSync('ps', ['-A', '-o', 'pgid=,stat=,args='], { encoding: 'utf8' })
  return stdout.split('\n').filter((line) => {
    const [id, state] = line.trim().split(/\s+/)
    return Number(id) === group && state?.startsWith('Z') === false
  })
}

/** A process of its own that starts a session, until it is killed. */
async function startParent(
  spec: SessionSpec,
  release: boolean,
): Promise<{ readonly id: ProcessId; readonly child: ChildProcess }> {
  const child = spawn(process.execPath, ['--import', 'tsx', PARENT, JSON.stringify({ ...spec, release })], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  const id = await new Promise<ProcessId>((resolve, reject) => {
    createInterface({ input: child.stdout }).once('line', (line) => resolve(JSON.parse(line) as ProcessId))
    child.once('exit', () => reject(new Error('the parent ended')))
  })
  return { id, child }
}

const refusal = (promise: Promise<unknown>) =>
  promise.then(
    () => undefined,
    (error: unknown) => (error instanceof LaunchError ? { message: error.message, permanent: error.permanent } : error),
  )

describe('a session', () => {
  it('tells the exit code of its command', async () => {
    const { run } = setup()
    const ends = await Promise.all([run('exit 0'), run('exit 3'), run('kill -KILL $$'), run('kill -INT $$')])
    expect(await Promise.all(ends.map(({ ended }) => ended))).toEqual([0, 3, 137, 130].map((code) => ({ kind: 'exit', code })))
  })

  it('tells of a command that the system cannot execute', async () => {
    const { dir, specOf, start, tail } = setup()
    const script = join(dir, 'script')
    writeFileSync(script, '#!/no/such/interpreter\n', { mode: 0o755 })
    const session = await start(specOf(script, []))
    expect(await session.ended).toMatchObject({ kind: 'exit', code: expect.toSatisfy((code) => code === 126 || code === 127) })
    expect(await tail(session.folder)).toContain('script')
  })

  it('writes standard output and error to its log, to the last line', async () => {
    const { run, tail } = setup()
    const session = await run('i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; echo wrong >&2; printf last')
    expect(await session.ended).toEqual({ kind: 'exit', code: 0 })
    const lines = (await tail(session.folder)).split('\n')
    expect(lines).toHaveLength(2002)
    expect(lines.slice(0, 2)).toEqual(['line 0', 'line 1'])
    expect(lines.slice(-3)).toEqual(['line 1999', 'wrong', 'last'])
  })

  it('shows output at once', async () => {
    const { run, says, sessions } = setup()
    const session = await run('printf one; read -r word; exec sleep 60')
    await says(session.folder, 'one')
    expect((await sessions.signs(session.folder)).output).toBe(':3')
  })

  it('turns its log over, and keeps the last output', async () => {
    const { run, tail } = setup()
    const logBytes = 256 * 1024
    const session = await run('yes | head -c 20000000; echo; echo last', { logBytes })
    expect(await session.ended).toEqual({ kind: 'exit', code: 0 })
    const sizes = ['log', 'log.old'].map((name) => statSync(join(session.folder, name)).size)
    expect(Math.max(...sizes)).toBeLessThanOrEqual(logBytes)
    expect(sizes[1]).toBeGreaterThan(logBytes / 2)
    expect((await tail(session.folder)).endsWith('y\n\nlast\n')).toBe(true)
  })

  it('keeps to the size of its log when output comes in small pieces', async () => {
    const { run, sessions } = setup()
    const session = await run('i=0; while [ $i -lt 1500 ]; do echo line $i; i=$((i+1)); done', { logBytes: 4096 })
    await session.ended
    for (const name of ['log', 'log.old']) expect(statSync(join(session.folder, name)).size).toBeLessThanOrEqual(4096)
    const lines = (await sessions.tail(session.folder, 2048)).trim().split('\n')
    expect(lines).toEqual(lines.map((_, index) => `line ${1500 - lines.length + index}`))
    expect(lines.length).toBeGreaterThan(100)
  })

  it('goes on when its log cannot be written', async () => {
    const { dir, run } = setup()
    const folder = join(dir, 'blocked')
    const script = 'rm -f "$FOLDER/log"; mkdir "$FOLDER/log"; yes | head -c 3000000; exit 5'
    const session = await run(script, { folder, env: { ...ENV, FOLDER: folder } })
    expect(await session.ended).toEqual({ kind: 'exit', code: 5 })
  })

  it('gives its input to the command, and removes it when it has ended', async () => {
    const { run, tail } = setup()
    const session = await run('wc -c', { input: 'x'.repeat(1024 * 1024) })
    const { mode } = statSync(join(session.folder, 'input'))
    expect(mode & 0o777).toBe(0o600)
    expect(statSync(session.folder).mode & 0o777).toBe(0o700)
    await session.ended
    expect((await tail(session.folder)).trim()).toBe(String(1024 * 1024))
    expect(existsSync(join(session.folder, 'input'))).toBe(false)
  })

  it('passes arguments on as they are', async () => {
    const { specOf, start, tail } = setup()
    const args = ['two words', '"double"', "sin'gle", '$(touch bad)', '`id`', '$HOME', 'a\nb', '', '-n', '*', '\\', 'ü', ';']
    const session = await start(specOf('/usr/bin/env', ['printf', '<%s>', ...args]))
    await session.ended
    expect(await tail(session.folder)).toBe(args.map((arg) => `<${arg}>`).join(''))
  })

  it('gives the command the environment of the specification, and nothing else', async () => {
    const { specOf, start, tail } = setup()
    const env = { PATH: '/nowhere', QUOTED: 'a "b" $(c)', EMPTY: '', size: '1', code: '2' }
    const session = await start(specOf('/usr/bin/env', [], { env }))
    await session.ended
    const seen = Object.fromEntries(
      (await tail(session.folder))
        .trim()
        .split('\n')
        .map((line) => line.split(/=(.*)/s)),
    )
    for (const ofTheShell of ['PWD', 'OLDPWD', 'SHLVL', '_']) delete seen[ofTheShell]
    expect(seen).toEqual(env)
  })

  it('leaves signals, terminal and open files of the shim out of the command', async () => {
    const { run, tail } = setup()
    const session = await run('grep -E "Sig(Ign|Blk)" /proc/self/status; ls /proc/$$/fd')
    await session.ended
    const output = await tail(session.folder)
    expect(output).toMatch(/SigBlk:\t0+\n/)
    expect(output).toMatch(/SigIgn:\t0+\n/)
    // Higher ones are of whoever started the tests.
    expect(output.split('\n').filter((line) => /^\d$/.test(line))).toEqual(['0', '1', '2'])
  })

  it('shows no sign before the first, and each of them', async () => {
    const { run, says, sessions } = setup()
    const session = await run('read -r word; exec sleep 60')
    expect(await sessions.signs(session.folder)).toEqual({ output: '', touched: '' })
    utimesSync(join(session.folder, 'heartbeat'), new Date(), new Date())
    expect((await sessions.signs(session.folder)).touched).not.toBe('')
    const talker = await run('echo one; exec sleep 60')
    await says(talker.folder, 'one')
    expect(await sessions.signs(talker.folder)).toEqual({ output: ':4', touched: '' })
    expect(await sessions.signs(join(session.folder, 'nowhere'))).toEqual({ output: '', touched: '' })
  })
})

describe('the tail of a log', () => {
  it('begins at a line, goes back into the old log, and is fit to be shown', async () => {
    const { dir, sessions } = setup()
    writeFileSync(join(dir, 'log.old'), 'first\nsecond\n')
    writeFileSync(join(dir, 'log'), 'third \x1b[31mred\x1b[0m\x07\r\n50%\r100%\n\xff\tend\n'.replace('\xff', '�'))
    expect(await sessions.tail(dir, 1000)).toBe('first\nsecond\nthird red\n50%\n100%\n�\tend\n')
    writeFileSync(join(dir, 'log'), 'third\n')
    expect(await sessions.tail(dir, 13)).toBe('second\nthird\n')
    expect(await sessions.tail(dir, 12)).toBe('third\n')
    expect(await sessions.tail(dir, 6)).toBe('third\n')
    writeFileSync(join(dir, 'log'), Buffer.from(`${'ü'.repeat(100)}`))
    expect(await sessions.tail(dir, 5)).toBe('üü')
    writeFileSync(join(dir, 'log'), Buffer.alloc(100, 0xff))
    expect(Buffer.byteLength(await sessions.tail(dir, 30))).toBeLessThanOrEqual(30)
    expect(await sessions.tail(join(dir, 'nowhere'), 30)).toBe('')
  })
})

describe('the end of a session', () => {
  it('is asked of the whole group by TERM', async () => {
    const { run, says } = setup()
    const session = await run(
      "(trap 'echo inner; exit' TERM; echo up; while :; do sleep 0.1; done) & trap 'wait; echo outer; exit 7' TERM; wait",
    )
    await says(session.folder, 'up')
    session.term()
    expect(await session.ended).toEqual({ kind: 'exit', code: 7 })
    await says(session.folder, 'inner\nouter')
    expect(membersOf(session.id.pid)).toEqual([])
  })

  it("is the command's own when it dies of TERM, and none when the group is killed", async () => {
    const { run, says } = setup()
    const [one, two] = await Promise.all([run('echo up; exec sleep 60'), run(STUBBORN)])
    await Promise.all([one, two].map(({ folder }) => says(folder, 'up')))
    one.term()
    two.kill()
    expect(await one.ended).toEqual({ kind: 'exit', code: 143 })
    expect(await two.ended).toMatchObject({ kind: 'lost', message: expect.stringContaining('SIGKILL') })
    expect(membersOf(two.id.pid)).toEqual([])
    two.term()
    two.kill()
  })

  it('takes with it what the command left behind, even if that holds its output and ignores TERM', async () => {
    const { run } = setup()
    const session = await run(`(${STUBBORN}) & echo started; exit 4`)
    expect(await session.ended).toEqual({ kind: 'exit', code: 4 })
    expect(membersOf(session.id.pid)).toEqual([])
  })

  it('is lost when its shim is killed, and the command is gone then', async () => {
    const { run, says } = setup()
    const session = await run(STUBBORN)
    await says(session.folder, 'up')
    process.kill(session.id.pid, 'SIGKILL')
    expect(await session.ended).toMatchObject({ kind: 'lost' })
    expect(membersOf(session.id.pid)).toEqual([])
  })

  it('survives signals that a command sends to its group', async () => {
    const { run, tail } = setup()
    const session = await run(
      "trap 'true' HUP INT QUIT ALRM TERM USR1 USR2; for s in HUP INT QUIT ALRM TERM USR1 USR2; do kill -s $s 0; echo $s; done; exit 9",
    )
    expect(await session.ended).toEqual({ kind: 'exit', code: 9 })
    expect((await tail(session.folder)).trim().split('\n').at(-1)).toBe('USR2')
  })

  it('comes by TERM, grace and KILL when whoever finds it ends it', async () => {
    const { run, says, sessions } = setup()
    const [soft, hard] = await Promise.all([run('trap "exit 6" TERM; echo up; while :; do sleep 0.1; done'), run(STUBBORN)])
    await Promise.all([soft, hard].map(({ folder }) => says(folder, 'up')))
    expect(await sessions.isAlive(soft.id)).toBe(true)
    await Promise.all([sessions.end(soft.id, 10_000), sessions.end(hard.id, 200)])
    expect([...membersOf(soft.id.pid), ...membersOf(hard.id.pid)]).toEqual([])
    expect(await sessions.isAlive(hard.id)).toBe(false)
    expect(await soft.ended).toEqual({ kind: 'exit', code: 6 })
    expect(await hard.ended).toMatchObject({ kind: 'lost' })
    await sessions.end(hard.id, 200)
  })

  it('never reaches a process that only has the same number', async () => {
    const { run, says, sessions, dir } = setup()
    const session = await run(STUBBORN)
    await says(session.folder, 'up')
    const other = { ...session.id, startedAt: `${session.id.startedAt}1` }
    expect(await sessions.isAlive(other)).toBe(false)
    await sessions.end(other, 0)
    const attached = sessions.attach(other, join(dir, 'nowhere'))
    attached.kill()
    expect(await attached.ended).toMatchObject({ kind: 'lost' })
    for (const pid of [-1, 0, 1, Number.NaN, process.pid]) await sessions.end({ ...session.id, pid }, 0)
    expect(membersOf(session.id.pid).length).toBeGreaterThan(1)
  })

  it('comes for fifty at once, each with its own code and output', async () => {
    const { run, tail } = setup()
    const sessions = await Promise.all(Array.from({ length: 50 }, (_, index) => run(`echo ${index}; exit ${index}`)))
    const ends = await Promise.all(sessions.map(({ ended }) => ended))
    expect(ends).toEqual(ends.map((_, code) => ({ kind: 'exit', code })))
    expect(await Promise.all(sessions.map(({ folder }) => tail(folder)))).toEqual(ends.map((_, index) => `${index}\n`))
    expect(sessions.flatMap(({ id }) => membersOf(id.pid))).toEqual([])
  })

  it('leaves a folder that can be removed, and no link in it is followed', async () => {
    const { dir, run, sessions } = setup()
    mkdirSync(join(dir, 'precious'))
    writeFileSync(join(dir, 'precious/file'), '')
    const session = await run('exit 0')
    await session.ended
    symlinkSync(join(dir, 'precious'), join(session.folder, 'link'))
    await sessions.remove(session.folder)
    await sessions.remove(session.folder)
    expect(existsSync(session.folder)).toBe(false)
    expect(existsSync(join(dir, 'precious/file'))).toBe(true)
  })
})

describe('a session without its supervisor', () => {
  it.each([
    ['a command', 'echo up; exec sleep 60'],
    ['one that ignores TERM', STUBBORN],
  ])('D4: is gone soon: %s', async (_, script) => {
    const { specOf, says, known, sessions } = setup()
    const spec = specOf('/bin/sh', ['-c', script])
    const { id, child } = await startParent(spec, true)
    known(id)
    await says(spec.folder, 'up')
    child.kill('SIGKILL')
    await until(
      async () => membersOf(id.pid),
      (members) => members.length === 0,
      spec.lostGraceMs + 1000,
    )
    expect(await sessions.isAlive(id)).toBe(false)
  })

  it('is gone too when it may survive but was not written down yet, and is found until then', async () => {
    const { specOf, says, known, sessions } = setup()
    const spec = specOf('/bin/sh', ['-c', STUBBORN], { survives: true })
    const { id, child } = await startParent(spec, false)
    known(id)
    await says(spec.folder, 'up')
    expect(await sessions.find(spec.folder)).toEqual(id)
    child.kill('SIGKILL')
    await until(
      async () => membersOf(id.pid),
      (members) => members.length === 0,
      spec.lostGraceMs + 1000,
    )
    expect(await sessions.find(spec.folder)).toBeUndefined()
  })

  it('goes on when it survives, and tells its exit code to the next', async () => {
    const { dir, specOf, says, known, sessions } = setup()
    const script = 'echo up; while ! [ -e go ]; do sleep 0.05; done; (trap "" TERM; exec sleep 60) & echo down; exit 11'
    const spec = specOf('/bin/sh', ['-c', script], { survives: true })
    const { id, child } = await startParent(spec, true)
    known(id)
    await says(spec.folder, 'up')
    const exited = new Promise((resolve) => child.once('exit', resolve))
    child.kill('SIGKILL')
    await exited
    const attached = sessions.attach(id, spec.folder)
    expect(await sessions.isAlive(id)).toBe(true)
    expect(await sessions.find(spec.folder)).toEqual(id)
    writeFileSync(join(dir, 'go'), '')
    expect(await attached.ended).toEqual({ kind: 'exit', code: 11 })
    expect(await sessions.tail(spec.folder, 100)).toBe('up\ndown\n')
    expect(membersOf(id.pid)).toEqual([])
    expect(await sessions.attach(id, spec.folder).ended).toEqual({ kind: 'exit', code: 11 })
  })
})

describe('a launch that cannot be', () => {
  it('is refused when there is no such program', async () => {
    const { dir, sessions } = setup()
    writeFileSync(join(dir, 'plain'), '#!/bin/sh\n', { mode: 0o644 })
    const resolve = (command: string, path: string = ENV.PATH) => refusal(sessions.resolve(command, { PATH: path }, false))
    expect(await resolve('no-such-program')).toEqual({
      message: 'command no-such-program: not found on PATH; install it, or give its path in session.command',
      permanent: true,
    })
    for (const [command, path] of [
      [join(dir, 'nothing')],
      [dir],
      [join(dir, 'plain')],
      ['plain', dir],
      ['plain', `:.:${ENV.PATH}`],
      ['./plain'],
      ['/dev/null'],
      ['bad\0name'],
      [''],
      ['..', '/usr'],
    ] as const) {
      expect(await resolve(command, path), command).toMatchObject({
        permanent: true,
        message: expect.stringMatching(/^command .*: .*; ?.*/s),
      })
    }
    expect(await sessions.resolve('sh', ENV, false)).toMatch(/^\/.*\/sh$/)
    expect(await sessions.resolve('/bin/sh', {}, false)).toBe('/bin/sh')
  })

  it('is refused without tmux when it is to run in tmux', async () => {
    const { dir, sessions } = setup()
    expect(await refusal(sessions.resolve('/bin/sh', { PATH: dir }, true))).toEqual({
      message: 'tmux: not found on PATH; install tmux or set session.tmux to false',
      permanent: true,
    })
  })

  it('leaves nothing behind when the system refuses the process', async () => {
    const { dir, sessions, specOf } = setup()
    const spawned = (more: Partial<SessionSpec>, args: string[] = []) => {
      const spec = specOf('/bin/sh', args, more)
      return refusal(sessions.spawn(spec)).then((error) => {
        expect(existsSync(spec.folder)).toBe(false)
        return error
      })
    }
    expect(await spawned({ cwd: join(dir, 'nowhere') })).toMatchObject({ permanent: false })
    expect(await spawned({}, ['x'.repeat(200_000)])).toMatchObject({
      permanent: true,
      message: expect.stringContaining('too long'),
    })
    expect(await spawned({}, ['secret\0'])).toMatchObject({ permanent: true, message: expect.not.stringContaining('secret') })
    writeFileSync(join(dir, 'file'), '')
    const spec = specOf('/bin/sh', [], { folder: join(dir, 'file/session') })
    expect(await refusal(sessions.spawn(spec))).toMatchObject({ permanent: false })
  })
})

describe.skipIf(spawnSync('tmux', ['-V']).error !== undefined)('a session in tmux', () => {
  const nameOf = () => `unstuck-test-${process.pid}-${Math.random().toString(36).slice(2)}`

  it('runs on a terminal, with its log, exit code, arguments and environment as elsewhere', async () => {
    const { run, tail } = setup()
    const script =
      'test -t 0 && test -t 1 && echo terminal; cat "$UNSTUCK_INPUT_FILE"; env | grep -v -E "^(PWD|OLDPWD|_|SHLVL)="; exit 12'
    const env = { ...ENV, QUOTED: `it's "x" $(y) #{z} %H;` }
    const session = await run(script, { tmux: nameOf(), env, input: '{"a":1}\n' })
    expect(await session.ended).toEqual({ kind: 'exit', code: 12 })
    const lines = (await tail(session.folder)).trim().split('\n')
    expect(lines.slice(0, 2)).toEqual(['terminal', '{"a":1}'])
    const names = lines.slice(2).map((line) => line.split('=')[0])
    expect(names.sort()).toEqual(['PATH', 'QUOTED', 'TERM', 'TMUX', 'TMUX_PANE', 'UNSTUCK_INPUT_FILE'])
    expect(lines).toContain(`QUOTED=${env.QUOTED}`)
    expect(existsSync(join(session.folder, 'pane'))).toBe(false)
    expect(membersOf(session.id.pid)).toEqual([])
  })

  it('takes what a person types', async () => {
    const { run, says } = setup()
    const tmux = nameOf()
    const session = await run('echo ready; read -r word; echo "typed $word"; exit 3', { tmux })
    await says(session.folder, 'ready')
    spawnSync('tmux', ['-L', 'unstuck', 'send-keys', '-t', tmux, 'hello', 'Enter'])
    expect(await session.ended).toEqual({ kind: 'exit', code: 3 })
    await says(session.folder, 'typed hello')
  })

  it('is ended by TERM, by KILL, and found by its folder', async () => {
    const { run, says, sessions } = setup()
    const [one, two] = await Promise.all([run('echo up; sleep 60', { tmux: nameOf() }), run(STUBBORN, { tmux: nameOf() })])
    await Promise.all([one, two].map(({ folder }) => says(folder, 'up')))
    expect(await sessions.find(one.folder)).toEqual(one.id)
    one.term()
    expect(await one.ended).toEqual({ kind: 'exit', code: 143 })
    two.kill()
    expect(await two.ended).toMatchObject({ kind: 'lost' })
    expect([...membersOf(one.id.pid), ...membersOf(two.id.pid)]).toEqual([])
  })

  it('is refused when its name is taken', async () => {
    const { run, sessions, specOf } = setup()
    const tmux = nameOf()
    const session = await run('sleep 60', { tmux })
    expect(await refusal(sessions.spawn(specOf('/bin/sh', [], { tmux })))).toMatchObject({
      permanent: false,
      message: expect.stringContaining('duplicate session'),
    })
    expect(await sessions.isAlive(session.id)).toBe(true)
  })

  it('D4: is gone soon when its supervisor is, unless it survives', async () => {
    const { dir, specOf, says, known, sessions } = setup()
    const mortal = specOf('/bin/sh', ['-c', STUBBORN], { tmux: nameOf() })
    const script = 'echo up; while ! [ -e go ]; do sleep 0.05; done; exit 13'
    const surviving = specOf('/bin/sh', ['-c', script], { tmux: nameOf(), survives: true })
    const [one, two] = await Promise.all([startParent(mortal, true), startParent(surviving, true)])
    for (const { id } of [one, two]) known(id)
    await Promise.all([mortal, surviving].map(({ folder }) => says(folder, 'up')))
    for (const { child } of [one, two]) child.kill('SIGKILL')
    await until(
      async () => membersOf(one.id.pid),
      (members) => members.length === 0,
      mortal.lostGraceMs + 1000,
    )
    expect(await sessions.isAlive(two.id)).toBe(true)
    writeFileSync(join(dir, 'go'), '')
    expect(await sessions.attach(two.id, surviving.folder).ended).toEqual({ kind: 'exit', code: 13 })
  })
})
